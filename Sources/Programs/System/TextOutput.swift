import KnockBase

/// Text that goes to a file, such as standard output, each time that a buffer is full and at `finish`.
struct TextOutput: TextSink, ~Copyable {
  private let descriptor: Int32
  private var buffer = TextBuffer<512>()
  private var failure: SystemError?
  /// How many bytes the present line has.
  private(set) var column = 0

  init(descriptor: Int32) { self.descriptor = descriptor }

  // Inlined, it would be in the program for each kind of text.
  @inline(never)
  mutating func append(byte: UInt8) {
    buffer.append(byte: byte)
    column = byte == UInt8(ascii: "\n") ? 0 : column + 1
    if buffer.count == 512 { flush() }
  }

  /// Writes blanks up to a column of the line, and at least one.
  @inline(never)
  mutating func pad(to column: Int) {
    repeat { append(byte: UInt8(ascii: " ")) } while self.column < column
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
    do throws(SystemError) {
      try buffer.withBytes { bytes throws(SystemError) in try Descriptor.write(descriptor, bytes) }
    } catch { failure = failure ?? error }
    buffer = TextBuffer<512>()
  }
}
