import KnockBase
import Testing

@Suite struct CalendarTimeTests {
  @Test(
    arguments: [
      // The seconds are those of date(1).
      ("2000-01-01", 946_771_200), ("2027-01-31", 1_801_440_000), ("2028-02-29", 1_835_481_600),
      ("2027-12-31", 1_830_297_600), ("2100-03-01", 4_107_628_800), ("9999-12-31", 253_402_300_800),
      ("2000-01-01T00:00Z", 946_684_800), ("2027-01-31T18:00Z", 1_801_418_400),
      ("2028-02-29T23:59Z", 1_835_481_540),
      ("1999-12-31", nil), ("2027-02-29", nil), ("2100-02-29", nil), ("2027-04-31", nil),
      ("2027-13-01", nil), ("2027-00-01", nil), ("2027-01-00", nil), ("2027-01-32", nil),
      ("2027-01-31T24:00Z", nil), ("2027-01-31T00:60Z", nil), ("2027-01-31T18:00", nil),
      ("2027-01-31T18:00z", nil), ("2027-01-31 18:00Z", nil), ("2027-01-31T", nil), ("", nil),
      ("2027/01/31", nil), ("20270131", nil), ("2027-1-31", nil), ("+027-01-31", nil),
    ] as [(String, Int64?)])
  func `a day ends at midnight in UTC`(text: String, seconds: Int64?) {
    #expect(CalendarTime.microseconds(Array(text.utf8).span) == seconds.map { $0 * 1_000_000 })
  }

  @Test func `each day follows the one before`() {
    var expected: Int64 = 946_684_800
    for year in 2000...2401 {
      for month in 1...12 {
        for day in 1...31 {
          func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
          let text = "\(year)-\(two(month))-\(two(day))"
          guard let end = CalendarTime.microseconds(Array(text.utf8).span) else {
            #expect(day > 28)
            continue
          }
          expected += 86_400
          #expect(end == expected * 1_000_000)
        }
      }
    }
    // The days of 400 years, and of the years 2400 and 2401.
    #expect(expected == 946_684_800 + (146_097 + 366 + 365) * 86_400)
  }
}
