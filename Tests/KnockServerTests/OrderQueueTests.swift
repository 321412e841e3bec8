import KnockProtocol
import KnockServer
import TestSupport
import Testing

@Suite struct OrderQueueTests {
  private func order(_ number: UInt32) -> Order {
    Order(Knock(command: .open, address: .inet(number)), closesGrant: false)
  }

  private func number(_ order: Order?) -> UInt32? {
    guard case .inet(let number) = order?.knock.address else { return nil }
    return number
  }

  private func append(_ value: UInt32, to queue: inout OrderQueue) -> Bool {
    queue.append(order(value))
  }

  private func first(of queue: inout OrderQueue) -> UInt32? {
    number(queue.removeFirst { _ in true })
  }

  @Test func `orders leave in the order in which they came`() {
    var queue = OrderQueue(storage(4, of: Order.self))
    var next: UInt32 = 0
    var oldest: UInt32 = 0
    for round in 1...100 {
      while queue.append(order(next)) { next += 1 }
      #expect(queue.count == 4)
      for _ in 0...round % 4 {
        #expect(first(of: &queue) == oldest)
        oldest += 1
      }
    }
  }

  @Test func `a full queue refuses and an empty one gives nothing`() {
    var queue = OrderQueue(storage(1, of: Order.self))
    #expect(first(of: &queue) == nil)
    #expect(append(1, to: &queue))
    #expect(!append(2, to: &queue))
    #expect(first(of: &queue) == 1)
    #expect(queue.count == 0)
  }

  @Test func `one out of the middle leaves the order of the rest`() {
    for start in 0..<5 {
      var queue = OrderQueue(storage(5, of: Order.self))
      for _ in 0..<start {
        _ = queue.append(order(99))
        _ = queue.append(order(98))
        _ = queue.removeFirst { _ in true }
      }
      while queue.removeFirst(where: { _ in true }) != nil {}
      for value in 0..<5 as Range<UInt32> { #expect(append(value, to: &queue)) }
      for expected in [3, nil] as [UInt32?] {
        let order = queue.removeFirst { $0.knock.address == .inet(3) }
        #expect(number(order) == expected)
      }
      let rest = [0, 1, 2, 4] as [UInt32]
      for value in rest { #expect(first(of: &queue) == value) }
    }
  }
}
