import KnockProtocol
import TestSupport
import Testing

@Suite struct KnockQueueTests {
  private func knock(_ number: UInt32) -> Knock {
    Knock(command: .open, address: .inet(number))
  }

  private func number(_ knock: Knock?) -> UInt32? {
    guard case .inet(let number) = knock?.address else { return nil }
    return number
  }

  private func append(_ value: UInt32, to queue: inout KnockQueue) -> Bool {
    queue.append(knock(value))
  }

  private func first(of queue: inout KnockQueue) -> UInt32? {
    number(queue.removeFirst { _ in true })
  }

  @Test func `knocks leave in the order in which they came`() {
    var queue = KnockQueue(storage(4, of: Knock.self))
    var next: UInt32 = 0
    var oldest: UInt32 = 0
    for round in 1...100 {
      while queue.append(knock(next)) { next += 1 }
      #expect(queue.count == 4)
      for _ in 0...round % 4 {
        #expect(first(of: &queue) == oldest)
        oldest += 1
      }
    }
  }

  @Test func `a full queue refuses and an empty one gives nothing`() {
    var queue = KnockQueue(storage(1, of: Knock.self))
    #expect(first(of: &queue) == nil)
    #expect(append(1, to: &queue))
    #expect(!append(2, to: &queue))
    #expect(first(of: &queue) == 1)
    #expect(queue.count == 0)
  }

  @Test func `one out of the middle leaves the order of the rest`() {
    for start in 0..<5 {
      var queue = KnockQueue(storage(5, of: Knock.self))
      for _ in 0..<start {
        _ = queue.append(knock(99))
        _ = queue.append(knock(98))
        _ = queue.removeFirst { _ in true }
      }
      while queue.removeFirst(where: { _ in true }) != nil {}
      for value in 0..<5 as Range<UInt32> { #expect(append(value, to: &queue)) }
      for expected in [3, nil] as [UInt32?] {
        let knock = queue.removeFirst { $0.address == .inet(3) }
        #expect(number(knock) == expected)
      }
      let rest = [0, 1, 2, 4] as [UInt32]
      for value in rest { #expect(first(of: &queue) == value) }
    }
  }
}
