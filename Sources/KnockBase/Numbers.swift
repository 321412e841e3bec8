/// Readers of numbers in arguments. Each takes the whole text, or returns nil.
public enum Numbers {
  /// A whole number as Python's `int()` takes it: with blanks around it, a sign, leading zeros and single
  /// underscores between digits. At most 18 digits.
  public static func integer(_ text: Span<UInt8>) -> Int64? {
    var digits = TextBuffer<64>()
    guard normalize(text, allowing: false, into: &digits) else { return nil }
    guard digits.count < 20 else { return nil }  // Also if the buffer was too short for it.
    return digits.withBytes { digits in
      var value: Int64 = 0
      for index in digits.indices where isDigit(digits[index]) {
        guard value < 100_000_000_000_000_000 else { return nil }
        value = value * 10 + Int64(digits[index] - UInt8(ascii: "0"))
      }
      return digits[0] == UInt8(ascii: "-") ? -value : value
    }
  }

  /// A number of 1 to 3 digits.
  public static func digits(_ text: Span<UInt8>) -> Int? {
    guard text.count >= 1, text.count <= 3 else { return nil }
    var number = 0
    for index in text.indices {
      guard isDigit(text[index]) else { return nil }
      number = number * 10 + Int(text[index] - UInt8(ascii: "0"))
    }
    return number
  }

  /// A port, 1 to 65535.
  public static func port(_ text: Span<UInt8>) -> UInt16? {
    guard let number = integer(text), number > 0 else { return nil }
    return UInt16(exactly: number)
  }

  /// A number of seconds over 0 as Python's `float()` takes it, in microseconds: rounded to nearest, at least 1
  /// and at most `Microseconds.longest`. Nil if it is no number, NaN, infinite, or 0 or less. With an exponent
  /// of over 308 it is infinite. Nil, too, if it has more than 63 characters after leading zeros.
  public static func microseconds(ofSeconds text: Span<UInt8>) -> Int64? {
    var plain = TextBuffer<64>()
    guard normalize(text, allowing: true, into: &plain), plain.count < 64 else { return nil }
    return plain.withBytes { microseconds(ofPlain: $0) }
  }

  /// - Parameter text: as `normalize` writes it.
  private static func microseconds(ofPlain text: Span<UInt8>) -> Int64? {
    var digits: UInt64 = 0
    // The exponent of ten that belongs to `digits`.
    var places: Int64 = 0
    var isFraction = false
    digits: for index in text.indices {
      switch text[index] {
      case UInt8(ascii: "."): isFraction = true
      case UInt8(ascii: "e"):
        let exponent = text.extracting((index + 1)...)
        let most: Int64 = exponent[0] == UInt8(ascii: "-") ? -999 : 999
        places += integer(exponent).map { min(max($0, -999), 999) } ?? most
        break digits
      case let byte where isDigit(byte):
        let hasRoom = digits < 100_000_000_000_000_000
        if hasRoom { digits = digits * 10 + UInt64(byte - UInt8(ascii: "0")) }
        if hasRoom == isFraction { places += isFraction ? -1 : 1 }
      default: break
      }
    }
    guard digits > 0, text[0] != UInt8(ascii: "-"), places <= 308 else { return nil }
    let longest = Microseconds.longest.magnitude
    places += 6
    while places > 0, digits < longest {
      digits *= 10
      places -= 1
    }
    while places < -1 {
      digits /= 10
      places += 1
    }
    if places == -1 { digits = (digits + 5) / 10 }
    return Int64(min(max(digits, 1), longest))
  }

  /// A duration in seconds, over 0 and at most 366 days. The number is whole. `s`, `m`, `h` or `d` may follow:
  /// `90`, `15m`, `2h`, `1d`.
  public static func duration(_ text: Span<UInt8>) -> Int64? {
    guard let last = text.indices.last else { return nil }
    let unit: Int64
    switch text[last] {
    case UInt8(ascii: "s"): unit = 1
    case UInt8(ascii: "m"): unit = 60
    case UInt8(ascii: "h"): unit = 3600
    case UInt8(ascii: "d"): unit = 86_400
    default: unit = 0
    }
    let digits = text.extracting(first: unit == 0 ? text.count : last)
    for index in digits.indices where !isDigit(digits[index]) { return nil }
    guard let number = integer(digits), number > 0, number <= 366 * 86_400 else { return nil }
    let seconds = number * max(unit, 1)
    return seconds <= 366 * 86_400 ? seconds : nil
  }

  /// Checks a number and writes it without blanks, `+`, underscores and leading zeros. The grammar:
  ///
  ///     [blanks] [sign] digits [blanks]                                     a whole number
  ///     [blanks] [sign] digits [`.` digits] [`e` [sign] digits] [blanks]    one that may have a fraction
  ///
  /// One side of the point may be empty.
  private static func normalize(
    _ text: Span<UInt8>, allowing fraction: Bool, into sink: inout some TextSink & ~Copyable
  ) -> Bool {
    var start = 0
    var end = text.count
    while start < end, isBlank(text[start]) { start += 1 }
    while end > start, isBlank(text[end - 1]) { end -= 1 }
    let text = text.extracting(start..<end)
    var index = 0

    func sign(_ sink: inout some TextSink & ~Copyable) {
      guard index < text.count else { return }
      if text[index] == UInt8(ascii: "-") { sink.append(byte: UInt8(ascii: "-")) }
      if text[index] == UInt8(ascii: "-") || text[index] == UInt8(ascii: "+") { index += 1 }
    }
    func digits(_ sink: inout some TextSink & ~Copyable, isFraction: Bool = false) -> Bool {
      guard index < text.count, isDigit(text[index]) else { return false }
      var isLeading = !isFraction
      while index < text.count {
        if isDigit(text[index]) {
          isLeading = isLeading && text[index] == UInt8(ascii: "0")
          if !isLeading { sink.append(byte: text[index]) }
        } else if text[index] != UInt8(ascii: "_") || index + 1 == text.count
          || !isDigit(text[index + 1])
        {
          break
        }
        index += 1
      }
      if isLeading { sink.append(byte: UInt8(ascii: "0")) }
      return true
    }

    sign(&sink)
    let whole = digits(&sink)
    guard fraction else { return whole && index == text.count }
    var parts = false
    if index < text.count, text[index] == UInt8(ascii: ".") {
      sink.append(byte: UInt8(ascii: "."))
      index += 1
      parts = digits(&sink, isFraction: true)
    }
    guard whole || parts else { return false }
    if index < text.count, text[index] | 0x20 == UInt8(ascii: "e") {
      sink.append(byte: UInt8(ascii: "e"))
      index += 1
      sign(&sink)
      guard digits(&sink) else { return false }
    }
    return index == text.count
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }
}
