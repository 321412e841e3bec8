import KnockBase
import KnockProtocol

/// A knock to act on.
public struct Order: Equatable, BitwiseCopyable, Sendable {
  public let knock: Knock
  /// Whether it closes a grant, whose keeper must hear how it has ended.
  public let closesGrant: Bool
  /// Whether its command has just run, or is about to: it need not run again.
  public let isRepeated: Bool

  public init(_ knock: Knock, closesGrant: Bool, isRepeated: Bool = false) {
    self.knock = knock
    self.closesGrant = closesGrant
    self.isRepeated = isRepeated
  }
}

/// Orders that wait for their command, in the order in which they came. Bounded.
public struct OrderQueue: ~Copyable {
  private let orders: Storage<Order>
  private var first = 0
  public private(set) var count = 0

  public init(_ orders: consuming Storage<Order>) {
    precondition(orders.count >= 1)
    self.orders = orders
  }

  public subscript(index: Int) -> Order { orders[(first + index) % orders.count] }

  /// False if the queue is full; the order is then not in it.
  public mutating func append(_ order: Order) -> Bool {
    guard count < orders.count else { return false }
    if count == 0 { first = 0 }  // A short queue then touches few pages.
    orders[(first + count) % orders.count] = order
    count += 1
    return true
  }

  /// Takes out the first order that `isReady`, and keeps the order of the rest.
  public mutating func removeFirst(where isReady: (Order) -> Bool) -> Order? {
    for index in 0..<count where isReady(self[index]) {
      let order = self[index]
      for later in (0..<index).reversed() {
        orders[(first + later + 1) % orders.count] = self[later]
      }
      first = (first + 1) % orders.count
      count -= 1
      return order
    }
    return nil
  }
}
