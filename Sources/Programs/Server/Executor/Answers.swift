import KnockBase
import KnockProtocol
import KnockServer

/// Sends answers to the clients that want one, some of them when a command has ended. It limits them by itself, whatever
/// the receiver says.
struct Answers: ~Copyable {
  /// How many orders may wait for commands. With several users, one has a quarter at most. Further ones get no answer.
  private static let capacity = 1024

  /// An order that waits for the end of a command.
  struct Waiting: BitwiseCopyable {
    let order: Order
    /// The number of the action that runs the command.
    let number: UInt32
    /// Whether a grant of the user must be there at the end.
    let needsGrant: Bool
    /// Whether the sets are as the order wants them.
    let areSetsDone: Bool
  }

  private let socket: UDPSocket
  let keys: AnswerKeys
  private let buckets: UserBuckets
  /// How many answers one of several users gets, and an only one.
  private let shareLimit: RateLimit
  private let limit: RateLimit
  private let waiting: Storage<Waiting>
  private var count = 0

  /// Nil if out of memory.
  ///
  /// - Parameter socket: the one that requests come to.
  @inline(never)
  init?(socket: consuming UDPSocket, keys: consuming AnswerKeys, _ settings: ServerSettings) {
    guard let buckets = Storage<UserBuckets.Element>.mapped(Users.slotCount),
      let waiting = Storage<Waiting>.mapped(Self.capacity)
    else { return nil }
    self.socket = socket
    self.keys = keys
    self.buckets = UserBuckets(buckets)
    self.waiting = waiting
    // As many as requests that the receiver remembers.
    shareLimit = ReplayMemory.share(of: settings.replayCapacity, drift: settings.drift)
    limit = RateLimit(Int64(settings.replayCapacity), within: 2 * settings.drift)
  }

  var socketNumber: Int32 { socket.number }

  /// Sends an answer, without waiting, unless its user had too many. Does nothing if none is wanted.
  @inline(never)
  func send(_ answer: Version2.Answer, to order: Order, isShared: Bool) throws(SystemError) {
    let limit = isShared ? shareLimit : limit
    guard let path = order.reply,
      buckets[order.user].take(limit, now: SystemClock.sinceBoot())
    else { return }
    var tag = InlineArray<40, UInt8>(repeating: 0)
    var bytes = tag.mutableSpan
    order.fingerprint.write(to: &bytes, at: 0)
    let datagram = keys.seal(
      answer, to: tag.span.extracting(first: Version2.tagSize), slot: Users.slot(of: order.user))
    try datagram.withBytes { datagram throws(SystemError) in
      try socket.send(datagram, along: path)
    }
  }

  /// Keeps an order until its action has ended, if there is room.
  mutating func wait(_ new: Waiting, isShared: Bool) {
    var own = 0
    for index in 0..<count where waiting[index].order.user == new.order.user { own += 1 }
    guard own < (isShared ? Self.capacity / 4 : Self.capacity), count < Self.capacity else {
      return
    }
    waiting[count] = new
    count += 1
  }

  /// Removes an order that waits for an action. Nil if there is none.
  mutating func take(waitingFor action: Action) -> Waiting? {
    for index in 0..<count
    where waiting[index].number == action.number
      && waiting[index].order.knock.address == action.knock.address
    {
      let found = waiting[index]
      count -= 1
      waiting[index] = waiting[count]
      return found
    }
    return nil
  }
}
