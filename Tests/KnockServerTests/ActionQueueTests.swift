import KnockProtocol
import KnockServer
import TestSupport
import Testing

@Suite struct ActionQueueTests {
  private func action(_ number: UInt32) -> Action {
    Action(
      Knock(command: .open, address: .inet(number)), by: .none, .none, closesGrant: false, .runs)
  }

  private func number(_ action: Action?) -> UInt32? {
    guard case .inet(let number) = action?.knock.address else { return nil }
    return number
  }

  private func append(_ value: UInt32, to queue: inout ActionQueue) -> Bool {
    queue.append(action(value))
  }

  private func first(of queue: inout ActionQueue) -> UInt32? {
    number(queue.removeFirst { _ in true })
  }

  @Test func `actions leave in the order in which they came`() {
    var queue = ActionQueue(storage(4, of: Action.self))
    var next: UInt32 = 0
    var oldest: UInt32 = 0
    for round in 1...100 {
      while queue.append(action(next)) { next += 1 }
      #expect(queue.count == 4)
      for _ in 0...round % 4 {
        #expect(first(of: &queue) == oldest)
        oldest += 1
      }
    }
  }

  @Test func `a full queue refuses and an empty one gives nothing`() {
    var queue = ActionQueue(storage(1, of: Action.self))
    #expect(first(of: &queue) == nil)
    #expect(append(1, to: &queue))
    #expect(!append(2, to: &queue))
    #expect(first(of: &queue) == 1)
    #expect(queue.count == 0)
  }

  @Test func `one out of the middle leaves the order of the rest`() {
    for start in 0..<5 {
      var queue = ActionQueue(storage(5, of: Action.self))
      for _ in 0..<start {
        _ = queue.append(action(99))
        _ = queue.append(action(98))
        _ = queue.removeFirst { _ in true }
      }
      while queue.removeFirst(where: { _ in true }) != nil {}
      for value in 0..<5 as Range<UInt32> { #expect(append(value, to: &queue)) }
      for expected in [3, nil] as [UInt32?] {
        let action = queue.removeFirst { $0.knock.address == .inet(3) }
        #expect(number(action) == expected)
      }
      let rest = [0, 1, 2, 4] as [UInt32]
      for value in rest { #expect(first(of: &queue) == value) }
    }
  }

  @Test func `a short queue touches one place`() {
    let actions = storage(4, of: Action.self)
    let size = 4 * MemoryLayout<Action>.stride
    let bytes = UnsafeRawBufferPointer(start: actions.baseAddress, count: size)
    var queue = ActionQueue(actions)
    for value in 1...9 as ClosedRange<UInt32> {
      #expect(append(value, to: &queue))
      #expect(first(of: &queue) == value)
    }
    #expect(bytes.prefix(size / 4).contains { $0 != 0 })
    #expect(bytes.dropFirst(size / 4).allSatisfy { $0 == 0 })
  }

  private func close(_ number: UInt32, endsGrant: Bool = true) -> Action {
    Action(
      Knock(command: .close, address: .inet(number)), by: .none, .none, closesGrant: endsGrant,
      .runs)
  }

  /// The order in which actions run while nothing runs for the addresses that are not busy.
  private func order(_ actions: [Action], busy: Set<UInt32> = []) -> [Action] {
    var queue = ActionQueue(storage(16, of: Action.self))
    for action in actions { _ = queue.append(action) }
    var order: [Action] = []
    while let next = queue.removeNext(isBusy: { address in
      busy.contains { address == .inet($0) }
    }) {
      order.append(next)
    }
    return order
  }

  @Test func `a close that ends a grant comes before all opens`() {
    let actions = [action(1), action(2), close(3), action(4), close(5)]
    #expect(order(actions) == [close(3), close(5), action(1), action(2), action(4)])
  }

  @Test func `a close that ends no grant waits for its turn`() {
    let actions = [action(1), close(2, endsGrant: false)]
    #expect(order(actions) == actions)
  }

  @Test func `for one address nothing overtakes anything`() {
    let actions = [action(1), action(2), close(2), action(2), close(3), close(2)]
    #expect(
      order(actions) == [action(2), close(2), close(3), action(2), close(2), action(1)])
  }

  @Test func `a close waits while a command runs for its address`() {
    let actions = [action(1), close(2), close(3), action(3)]
    #expect(order(actions, busy: [2]) == [close(3), action(1), action(3)])
    #expect(order(actions, busy: [1, 2, 3]) == [])
  }
}
