import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// Numbers in memory that both processes share. The receiver counts what it has met, and the executor shows it. The
/// executor counts the knocks that it is done with, so that the receiver knows whether there is room for another.
/// Neither uses a number of the other for anything else.
@safe struct Tally {
  /// What a user has done: 24 bytes.
  struct UserCounts: BitwiseCopyable {
    fileprivate(set) var accepted: UInt64 = 0
    fileprivate(set) var refused: UInt64 = 0
    fileprivate var number: UserNumber
    /// How many slots were used before this one.
    fileprivate(set) var order: UInt32
  }

  private static let acceptedIndex = Int(Refusal.count)
  private static let skewIndex = acceptedIndex + 1
  private static let droppedIndex = skewIndex + 1
  /// How many slots of users have counters.
  private static let slotsIndex = droppedIndex + 1
  private static let counterCount = slotsIndex + 1

  private let counters: UnsafeMutablePointer<UInt64>
  private let handled: UnsafeMutablePointer<UInt32>
  private let beats: UnsafeMutablePointer<UInt32>
  private let answered: UnsafeMutablePointer<UInt32>
  /// By slot. Those of users who never knocked are not touched.
  private let users: UnsafeMutablePointer<UserCounts>

  init() throws(SystemError) {
    let size = Self.counterCount * MemoryLayout<UInt64>.stride
    let usersOffset = size + 4 * MemoryLayout<UInt32>.stride
    let usersSize = Users.slotCount * MemoryLayout<UserCounts>.stride
    guard let memory = unsafe csys_map_shared(usersOffset + usersSize) else {
      throw .outOfMemory
    }
    unsafe counters = unsafe memory.bindMemory(to: UInt64.self, capacity: Self.counterCount)
    unsafe handled = unsafe (memory + size).bindMemory(to: UInt32.self, capacity: 3)
    unsafe beats = unsafe handled + 1
    unsafe answered = unsafe handled + 2
    unsafe users = unsafe (memory + usersOffset).bindMemory(
      to: UserCounts.self, capacity: Users.slotCount)
  }

  /// By the receiver only.
  func count(_ refusal: Refusal) { unsafe counters[Int(refusal.rawValue)] += 1 }

  /// Counts a refused datagram that is signed with the key of a user. By the receiver only.
  func count(_ refusal: Refusal, of user: UserNumber) {
    unsafe counts(of: user).pointee.refused += 1
    count(refusal)
  }

  /// By the receiver only.
  func countAccepted(by user: UserNumber) {
    unsafe counts(of: user).pointee.accepted += 1
    unsafe counters[Self.acceptedIndex] += 1
  }

  /// The counters of a user, which begin at 0.
  private func counts(of user: UserNumber) -> UnsafeMutablePointer<UserCounts> {
    let counts = unsafe users + Users.slot(of: user)
    if unsafe counts.pointee.number != user {
      let isNew = unsafe counts.pointee.number == 0
      let order = unsafe isNew ? UInt32(counters[Self.slotsIndex]) : counts.pointee.order
      if isNew { unsafe counters[Self.slotsIndex] += 1 }
      unsafe counts.pointee = UserCounts(number: user, order: order)
    }
    return unsafe counts
  }

  /// What the user in a slot of the table has done; nil if the server has heard nothing of them.
  func counts(of user: User) -> UserCounts? {
    let counts = unsafe users[user.slot]
    return counts.number == user.number ? counts : nil
  }

  /// Records how far the clock of a sender with the key is ahead of ours (microseconds). By the receiver only.
  func record(clockSkew: Int64) {
    guard clockSkew.magnitude <= Microseconds.longest.magnitude else { return }
    unsafe counters[Self.skewIndex] = UInt64(bitPattern: clockSkew)
  }

  /// The last clock skew (microseconds); 0 before the first.
  var clockSkew: Int64 {
    let skew = unsafe Int64(bitPattern: counters[Self.skewIndex])
    return skew.magnitude <= Microseconds.longest.magnitude ? skew : 0
  }

  var accepted: UInt64 { unsafe counters[Self.acceptedIndex] }
  func refused(_ refusal: Refusal) -> UInt64 { unsafe counters[Int(refusal.rawValue)] }

  /// Records how many datagrams the kernel has dropped. By the receiver only, which alone has the socket.
  func record(kernelDropped: UInt64) {
    unsafe counters[Self.droppedIndex] = kernelDropped
  }

  /// As of the receiver's last round.
  var kernelDropped: UInt64 { unsafe counters[Self.droppedIndex] }

  /// The rounds of the receiver's loop, modulo 2^32. Set by the receiver only.
  var beatCount: UInt32 {
    get { unsafe csys_load(beats) }
    nonmutating set { unsafe csys_store(beats, newValue) }
  }

  /// How many knocks have left the executor's queue, modulo 2^32. Set by the executor only.
  var handledCount: UInt32 {
    get { unsafe csys_load(handled) }
    nonmutating set { unsafe csys_store(handled, newValue) }
  }

  /// How many refusals the executor has taken to answer them, modulo 2^32. Set by the executor only.
  var answeredCount: UInt32 {
    get { unsafe csys_load(answered) }
    nonmutating set { unsafe csys_store(answered, newValue) }
  }
}
