import Testing

@testable import Programs

@Suite struct PollTests {
  @Test(arguments: [1, 999, 1000, 1001, 2500] as [Int64])
  func `a wait does not end before its moment`(microseconds: Int64) throws {
    let moment = SystemClock.monotonic() + microseconds
    var set = PollSet()
    try set.wait(until: moment)
    #expect(SystemClock.monotonic() >= moment)
  }

  @Test(arguments: [.min, -1, 0, 1] as [Int64])
  func `a wait until a moment in the past ends`(moment: Int64) throws {
    var set = PollSet()
    try set.wait(until: moment)
    #expect(!set.isReady(0))
  }
}
