import TestSupport
import Testing

@testable import KnockBase

// What the program must never do ends it.

@Suite struct PreconditionTests {
  @Test func `an index has a power of two of slots`() async {
    _ = PositionIndex(claimed(2))
    _ = PositionIndex(claimed(8))
    await #expect(processExitsWith: .failure) { _ = PositionIndex(claimed(1)) }
    await #expect(processExitsWith: .failure) { _ = PositionIndex(claimed(0)) }
    await #expect(processExitsWith: .failure) { _ = PositionIndex(claimed(6)) }
  }

  @Test func `no element outside of a storage is read or written`() async {
    let numbers = storage(2, of: Int.self)
    numbers[0] = 1
    numbers[1] = 2
    #expect(numbers[0] + numbers[1] == 3)
    #expect(numbers.withElements(0..<2) { $0.count } == 2)
    await #expect(processExitsWith: .failure) { _ = storage(2, of: Int.self)[-1] }
    await #expect(processExitsWith: .failure) { _ = storage(2, of: Int.self)[2] }
    await #expect(processExitsWith: .failure) { storage(2, of: Int.self)[-1] = 1 }
    await #expect(processExitsWith: .failure) { storage(2, of: Int.self)[2] = 1 }
    await #expect(processExitsWith: .failure) {
      storage(2, of: Int.self).withElements(-1..<2) { _ in }
    }
    await #expect(processExitsWith: .failure) {
      storage(2, of: Int.self).withElements(0..<3) { _ in }
    }
  }
}
