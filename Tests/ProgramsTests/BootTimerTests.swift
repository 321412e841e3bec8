import KnockBase
import Testing

@testable import Programs

@Suite struct BootTimerTests {
  /// Whether it is ready within a time (microseconds).
  private func isReady(_ timer: borrowing BootTimer, within time: Int64) throws -> Bool {
    var set = PollSet()
    set.addReader(timer.number)
    try set.wait(until: SystemClock.monotonic() + time)
    return set.isReady(0)
  }

  @Test func `it is ready from its moment on, not before`() throws {
    var timer = try BootTimer()
    #expect(try !isReady(timer, within: 0))
    let moment = SystemClock.sinceBoot() + 20 * Microseconds.millisecond
    timer.set(moment)
    #expect(try isReady(timer, within: 10 * Microseconds.second))
    #expect(SystemClock.sinceBoot() >= moment)
    #expect(try isReady(timer, within: 0))
  }

  @Test(arguments: [.min, -1, 0, 1] as [Int64])
  func `a moment in the past is now`(moment: Int64) throws {
    var timer = try BootTimer()
    timer.set(moment)
    #expect(try isReady(timer, within: 0))
  }

  @Test(arguments: [.max, SystemClock.sinceBoot() + Microseconds.longest] as [Int64])
  func `another moment takes the place of the last one`(moment: Int64) throws {
    var timer = try BootTimer()
    timer.set(1)
    #expect(try isReady(timer, within: 0))
    timer.set(moment)
    #expect(try !isReady(timer, within: 20 * Microseconds.millisecond))
  }
}
