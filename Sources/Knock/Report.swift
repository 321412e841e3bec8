import CSystem
import KnockProtocol

/// A line for the standard error, without its end. Longer ones are cut.
typealias Line = TextBuffer<1024>

/// Which lines are written.
enum Verbosity: Int, Comparable {
  case quiet, normal, verbose, debug

  static func < (left: Verbosity, right: Verbosity) -> Bool { left.rawValue < right.rawValue }

  /// One step up, where there is one.
  mutating func increase() { self = Verbosity(rawValue: rawValue + 1) ?? .debug }
}

/// Messages to the standard error: one line each, `PROGRAM: ...`, in one write.
struct Report {
  /// `pyknock server`, for one.
  let program: StaticString
  var verbosity = Verbosity.normal

  init(program: StaticString) { self.program = program }

  /// The start of a line.
  @inline(never)
  func line() -> Line {
    var line = Line()
    line.append(program)
    line.append(": ")
    return line
  }

  /// Writes a line, or drops it rather than wait for a reader that has stalled.
  @inline(never)
  func write(_ line: consuming Line) {
    line.endLine()
    line.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { unsafe csys_write_log($0.baseAddress, $0.count) }
    }
  }

  @inline(never)
  func write(_ text: StaticString) {
    var line = line()
    line.append(text)
    write(line)
  }

  /// Writes `what 'argument': why`.
  func write(_ what: StaticString, _ argument: Argument, _ why: (inout Line) -> Void) {
    var line = line()
    line.append(what)
    line.append(" ")
    line.append(quoted: argument)
    line.append(": ")
    why(&line)
    write(line)
  }
}

/// Text for a file, the standard output for one. Written when the buffer is full and at `finish`.
struct FileText: TextSink, ~Copyable {
  private let descriptor: Int32
  private var buffer = TextBuffer<512>()
  private var failure: SystemError?

  init(descriptor: Int32) { self.descriptor = descriptor }

  mutating func append(byte: UInt8) {
    buffer.append(byte: byte)
    if buffer.count == 512 { flush() }
  }

  /// Writes what is left.
  ///
  /// - Throws: the first error that a write met.
  consuming func finish() throws(SystemError) {
    flush()
    if let failure { throw failure }
  }

  private mutating func flush() {
    let descriptor = descriptor
    let failure = buffer.withBytes { bytes -> SystemError? in
      unsafe bytes.withUnsafeBytes { bytes in
        var written = 0
        while written < bytes.count {
          let result = unsafe csys_write(
            descriptor, bytes.baseAddress.map { unsafe $0 + written }, bytes.count - written)
          guard result > 0 else { return SystemError(number: result == 0 ? EIO : -result) }
          written += Int(result)
        }
        return nil
      }
    }
    self.failure = self.failure ?? failure
    buffer = TextBuffer<512>()
  }
}
