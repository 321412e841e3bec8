import CSystem
import KnockBase

/// Text that goes to a file, such as standard output, each time that a buffer is full and at `finish`.
struct TextOutput: TextSink, ~Copyable {
  private let descriptor: Int32
  private var buffer = TextBuffer<512>()
  private var failure: SystemError?

  init(descriptor: Int32) { self.descriptor = descriptor }

  // Inlined, it would be in the program for each kind of text.
  @inline(never)
  mutating func append(byte: UInt8) {
    buffer.append(byte: byte)
    if buffer.count == 512 { flush() }
  }

  /// Writes the rest.
  ///
  /// - Throws: the first error of all writes.
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
          guard result > 0 else { return SystemError(number: result == 0 ? CSYS_EIO : -result) }
          written += Int(result)
        }
        return nil
      }
    }
    self.failure = self.failure ?? failure
    buffer = TextBuffer<512>()
  }
}
