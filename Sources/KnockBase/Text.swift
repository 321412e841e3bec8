/// A destination for text, one byte at a time.
///
/// All text of the program is written through it: log lines, expanded commands, files. So nothing needs a
/// `String` or the heap.
public protocol TextSink: ~Copyable {
  mutating func append(byte: UInt8)
}

extension TextSink where Self: ~Copyable {
  // Inlined into its hundreds of callers, it would be a tenth of the program.
  @inline(never)
  public mutating func append(_ text: Literal) {
    var next = unsafe text.start
    while unsafe next.pointee != 0 {
      append(byte: unsafe next.pointee)
      unsafe next += 1
    }
  }

  public mutating func append(_ bytes: Span<UInt8>) {
    for index in bytes.indices { append(byte: bytes[index]) }
  }

  @inline(__always)
  public mutating func append<Number: BinaryInteger>(_ number: Number) {
    if Number.isSigned {
      append(signed: Int64(truncatingIfNeeded: number))
    } else {
      append(digitsOf: UInt64(truncatingIfNeeded: number), base: 10)
    }
  }

  @inline(never)
  public mutating func append(signed number: Int64) {
    if number < 0 { append(byte: UInt8(ascii: "-")) }
    append(digitsOf: number.magnitude, base: 10)
  }

  /// Microseconds as seconds with a sign and one decimal, rounded to nearest: `+0.0`, `-3600.4`.
  /// Over `Microseconds.longest`, `>1e12`.
  public mutating func append(signedSeconds microseconds: Int64) {
    append(byte: UInt8(ascii: microseconds < 0 ? "-" : "+"))
    let magnitude = microseconds.magnitude
    guard magnitude <= Microseconds.longest.magnitude else { return append(">1e12") }
    let tenths = (magnitude + 50_000) / 100_000
    append(tenths / 10)
    append(byte: UInt8(ascii: "."))
    append(tenths % 10)
  }

  /// Microseconds over 0 as seconds with up to three decimals: `60`, `2.5`.
  public mutating func append(seconds microseconds: Int64) {
    let thousandths = (microseconds.magnitude + 500) / 1000
    append(thousandths / 1000)
    var rest = thousandths % 1000
    guard rest > 0 else { return }
    append(byte: UInt8(ascii: "."))
    var unit: UInt64 = 100
    while rest > 0 {
      append(rest / unit)
      rest %= unit
      unit /= 10
    }
  }

  /// Untrusted bytes between single quotes: printable ASCII as it is, the rest as `\xNN`. At most 128 bytes, then
  /// `...`. So no input can forge or flood a log line.
  public mutating func append(quoted bytes: Span<UInt8>) {
    append(byte: UInt8(ascii: "'"))
    append(escaped: bytes)
    append(byte: UInt8(ascii: "'"))
  }

  /// The same without the quotes.
  public mutating func append(escaped bytes: Span<UInt8>) {
    for index in 0..<min(bytes.count, 128) {
      let byte = bytes[index]
      if byte >= 0x20, byte < 0x7F, byte != UInt8(ascii: "'"), byte != UInt8(ascii: "\\") {
        append(byte: byte)
      } else {
        append("\\x")
        append(byte: hexDigit(byte >> 4))
        append(byte: hexDigit(byte & 15))
      }
    }
    if bytes.count > 128 { append("...") }
  }

  public mutating func append(digitsOf number: UInt64, base: UInt64) {
    if number >= base { append(digitsOf: number / base, base: base) }
    append(byte: hexDigit(UInt8(truncatingIfNeeded: number % base)))
  }

  private func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }
}

/// Text in a buffer of a fixed capacity (bytes). The rest is dropped.
public struct TextBuffer<let capacity: Int>: TextSink, ~Copyable {
  private var storage = InlineArray<capacity, UInt8>(repeating: 0)
  public private(set) var count = 0

  public init() {}

  public mutating func append(byte: UInt8) {
    guard count < capacity else { return }
    storage[count] = byte
    count += 1
  }

  public mutating func removeAll() { count = 0 }

  /// Appends a line feed. If the buffer is full, it replaces the last byte.
  public mutating func endLine() {
    count = min(count, capacity - 1)
    append(byte: UInt8(ascii: "\n"))
  }

  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(storage.span.extracting(first: count))
  }
}

/// Counts the bytes that are written to it.
public struct TextLength: TextSink {
  public private(set) var count = 0

  public init() {}

  public mutating func append(byte: UInt8) { count += 1 }
}
