import KnockBase
import TestSupport
import Testing

@testable import KnockServer

// What the program must never do ends it.

private func grants(
  records: Int, states: Int, heap: Int, slots: Int, areas: Int? = nil
) -> Int {
  Grants(
    records: claimed(records), changed: claimed(records / 64 + 1),
    names: SetNames(claimed(SetNames.size)), states: claimed(states), heap: claimed(heap),
    index: PositionIndex(claimed(slots)), areas: claimed(areas ?? states), place: 1, secret: 7
  ).count
}

private func replays(records: Int, slots: Int) -> Int {
  ReplayMemory(
    records: claimed(records), index: PositionIndex(claimed(slots)),
    shares: UserBuckets(claimed(0))
  ).count
}

@Suite struct PreconditionTests {
  @Test func `grants need memory of the right size`() async {
    let most = 1 << 30
    #expect(grants(records: 2, states: 2, heap: 2, slots: 4) == 0)
    #expect(grants(records: most, states: most, heap: most, slots: 2 * most) == 0)
    await #expect(processExitsWith: .failure) {
      _ = grants(records: 1, states: 1, heap: 1, slots: 4)
    }
    await #expect(processExitsWith: .failure) {
      let tooMany = 1 << 30 + 1
      _ = grants(records: tooMany, states: tooMany, heap: tooMany, slots: 1 << 32)
    }
    await #expect(processExitsWith: .failure) {
      _ = grants(records: 2, states: 3, heap: 3, slots: 8)
    }
    await #expect(processExitsWith: .failure) {
      _ = grants(records: 2, states: 2, heap: 1, slots: 4)
    }
    await #expect(processExitsWith: .failure) {
      _ = grants(records: 2, states: 2, heap: 2, slots: 4, areas: 1)
    }
    await #expect(processExitsWith: .failure) {
      _ = grants(records: 2, states: 2, heap: 2, slots: 2)
    }
  }

  @Test func `a replay memory needs a record and slots for all`() async {
    #expect(replays(records: 1, slots: 2) == 0)
    #expect(replays(records: 3, slots: 8) == 0)
    await #expect(processExitsWith: .failure) { _ = replays(records: 0, slots: 2) }
    await #expect(processExitsWith: .failure) { _ = replays(records: 3, slots: 4) }
  }

  @Test func `a queue and a list have room for one at least`() async {
    _ = ActionQueue(claimed(1))
    _ = RecentKnocks(claimed(1))
    await #expect(processExitsWith: .failure) { _ = ActionQueue(claimed(0)) }
    await #expect(processExitsWith: .failure) { _ = RecentKnocks(claimed(0)) }
  }
}
