/// A date or a minute of the calendar, in UTC.
public enum CalendarTime {
  /// When `2027-01-31T18:00Z` begins, or when the day `2027-01-31` is over, in microseconds since the Unix epoch. Nil
  /// for another form, for what the calendar does not have, and for other years than 2000 to 9999.
  @inline(never)
  public static func microseconds(_ text: Span<UInt8>) -> Int64? {
    let pattern: Literal = "0000-00-00T00:00Z"
    guard text.count == 10 || text.count == pattern.count else { return nil }
    var fields = InlineArray<5, Int64>(repeating: 0)
    var field = 0
    let matches = pattern.withBytes { pattern in
      for index in text.indices {
        let byte = text[index]
        if pattern[index] == UInt8(ascii: "0") {
          guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return false }
          fields[field] = fields[field] * 10 + Int64(byte - UInt8(ascii: "0"))
        } else {
          guard byte == pattern[index] else { return false }
          field = min(field + 1, fields.count - 1)
        }
      }
      return true
    }
    let (year, month, day) = (fields[0], fields[1], fields[2])
    guard matches, year >= 2000, month >= 1, month <= 12, day >= 1,
      day <= length(of: month, in: year), fields[3] < 24, fields[4] < 60
    else { return nil }
    var days = 10_957 + (year - 2000) * 365 + leapDays(before: year) - leapDays(before: 2000)
    for earlier in 1..<month { days += length(of: earlier, in: year) }
    days += text.count == 10 ? day : day - 1
    return ((days * 24 + fields[3]) * 60 + fields[4]) * 60 * Microseconds.second
  }

  private static func leapDays(before year: Int64) -> Int64 {
    (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400
  }

  private static func length(of month: Int64, in year: Int64) -> Int64 {
    switch month {
    case 2: 28 + leapDays(before: year + 1) - leapDays(before: year)
    case 4, 6, 9, 11: 30
    default: 31
    }
  }
}
