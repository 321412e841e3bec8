import CSystem
import KnockBase

/// A NUL-terminated string that lives as long as the process: an element of argv or environ.
///
/// Sendable only because a `Misuse` is an `Error`; the program has one thread.
@safe struct Argument: @unchecked Sendable {
  /// For a system call.
  let pointer: UnsafeMutablePointer<CChar>

  init(_ pointer: UnsafeMutablePointer<CChar>) { unsafe self.pointer = unsafe pointer }

  /// A text that must not be written to.
  init(_ text: Literal) {
    unsafe self.init(UnsafeMutablePointer(mutating: text.cString))
  }

  static var empty: Argument { Argument("") }

  /// The length in bytes, without the NUL. It is counted each time: settings and errors hold many arguments, and
  /// all that moves them is smaller without it.
  @inline(never)
  var count: Int {
    var count = 0
    while unsafe pointer[count] != 0 { count += 1 }
    return count
  }

  /// Nil for an empty text. The original takes an empty address for none.
  var nonempty: Argument? { unsafe pointer.pointee != 0 ? self : nil }

  func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let start = unsafe UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt8.self)
    return try unsafe body(UnsafeBufferPointer(start: start, count: count).span)
  }

  @inline(never)
  static func == (argument: Argument, text: Literal) -> Bool {
    argument.withBytes { $0.equals(text) }
  }

  @inline(never)
  static func == (one: Argument, other: Argument) -> Bool {
    one.withBytes { one in other.withBytes { one.equals($0) } }
  }
}

/// The arguments, or the environment.
@safe struct ArgumentList {
  let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
  private(set) var count: Int

  init(_ pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, count: Int) {
    unsafe self.pointers = unsafe pointers
    self.count = count
  }

  subscript(index: Int) -> Argument? {
    guard index >= 0, index < count, let pointers = unsafe pointers,
      let pointer = unsafe pointers[index]
    else { return nil }
    return unsafe Argument(pointer)
  }

  /// The environment of the process.
  static func environment() -> ArgumentList {
    guard let variables = unsafe csys_environment() else {
      return unsafe ArgumentList(nil, count: 0)
    }
    var count = 0
    while unsafe variables[count] != nil { count += 1 }
    return unsafe ArgumentList(variables, count: count)
  }

  /// Without the first `number` arguments.
  func dropFirst(_ number: Int) -> ArgumentList {
    guard number <= count, let pointers = unsafe pointers else { return self }
    return unsafe ArgumentList(pointers + number, count: count - number)
  }
}

extension TextBuffer {
  /// Calls `body` with the text, which must end with a NUL. The argument is only valid there.
  func withArgument<Result: ~Copyable, Failure: Error>(
    _ body: (Argument) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try withBytes { bytes throws(Failure) in
      try unsafe bytes.withUnsafeBytes { bytes throws(Failure) in
        guard let start = bytes.baseAddress else { return try body(.empty) }
        return try unsafe body(
          Argument(
            UnsafeMutableRawPointer(mutating: start).assumingMemoryBound(to: CChar.self)))
      }
    }
  }
}

extension Literal {
  var cString: UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self)
  }
}

extension TextSink where Self: ~Copyable {
  /// Untrusted text between quotes: see `append(quoted: Span)`.
  mutating func append(quoted argument: Argument) {
    argument.withBytes { append(quoted: $0) }
  }
}
