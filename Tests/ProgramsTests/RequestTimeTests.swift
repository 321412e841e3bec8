import Testing

@testable import Programs

@Suite struct RequestTimeTests {
  @Test func `no two requests have the same time, whatever the clock does`() {
    let clock: [Int64] = [-5, 100, 100, 100, 99, 50, .min, 102, 103, 200, 1]
    #expect(
      clock.map { nextRequestTime(at: $0) }
        == [1, 100, 101, 102, 103, 104, 105, 106, 107, 200, 201])
  }
}
