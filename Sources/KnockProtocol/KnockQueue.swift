/// Accepted knocks that wait for their command, in the order in which they came. Bounded.
public struct KnockQueue: ~Copyable {
  private let knocks: Storage<Knock>
  private var first = 0
  public private(set) var count = 0

  public init(_ knocks: consuming Storage<Knock>) {
    precondition(knocks.count >= 1)
    self.knocks = knocks
  }

  public subscript(index: Int) -> Knock { knocks[(first + index) % knocks.count] }

  /// False if the queue is full; the knock is then not in it.
  public mutating func append(_ knock: Knock) -> Bool {
    guard count < knocks.count else { return false }
    if count == 0 { first = 0 }  // A short queue then touches few pages.
    knocks[(first + count) % knocks.count] = knock
    count += 1
    return true
  }

  /// Takes out the first knock that `isReady`, and keeps the order of the rest.
  public mutating func removeFirst(where isReady: (Knock) -> Bool) -> Knock? {
    for index in 0..<count where isReady(self[index]) {
      let knock = self[index]
      for later in (0..<index).reversed() {
        knocks[(first + later + 1) % knocks.count] = self[later]
      }
      first = (first + 1) % knocks.count
      count -= 1
      return knock
    }
    return nil
  }
}
