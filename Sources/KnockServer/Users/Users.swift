import KnockBase
import KnockProtocol

/// The number of a user: generation * 16384 + slot. Never 0, and never used again while the server runs.
public typealias UserNumber = UInt32

/// Tells keys apart, and tells nothing else about them.
public struct KeyFingerprint: Equatable, BitwiseCopyable, Sendable {
  public static let none = KeyFingerprint(low: 0, high: 0)

  // 16 bytes as little-endian numbers.
  let low: UInt64
  public let high: UInt64

  /// Of a key of version 2, `low` is the id, and `high` is the same for all keys of a server.
  public init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  /// Two keys have the same one only if they are expanded to the same state. So a key over 64 bytes has that of its
  /// hash (RFC 2104).
  public init(of key: borrowing some MACKey & ~Copyable) {
    let label: Literal = "pyknock key fingerprint"
    self = label.withBytes { label in
      let mac = key.mac(of: label)
      return KeyFingerprint(
        low: mac.span.littleEndian(at: 0, count: 8), high: mac.span.littleEndian(at: 8, count: 8))
    }
  }
}

/// A user: who signs, and what they may do. The value only points into the table, where a record is large. It must not
/// be kept while the table changes.
@safe public struct User: Equatable {
  /// A user as the table has it.
  public struct Record: BitwiseCopyable, Sendable {
    let number: UserNumber
    let name: UserName
    let key: KeyFingerprint
    let version: UInt8
    fileprivate(set) var policy: Policy
    fileprivate(set) var isPresent = true
  }

  /// The size of `bytes`.
  public static let size = MemoryLayout<Record>.size

  private let record: UnsafePointer<Record>

  init(_ record: UnsafePointer<Record>) { unsafe self.record = unsafe record }

  public var number: UserNumber { unsafe record.pointee.number }
  public var name: UserName { unsafe record.pointee.name }
  public var key: KeyFingerprint { unsafe record.pointee.key }
  /// Of the datagrams that the user's key signs: 1 or 2.
  public var version: UInt8 { unsafe record.pointee.version }
  public var policy: Policy { unsafe record.pointee.policy }
  public static func == (left: User, right: User) -> Bool { left.number == right.number }

  /// The position in the table.
  public var slot: Int { Users.slot(of: number) }

  /// See `Policy.refusal`.
  @inline(never)
  public func refusal(
    of knock: Knock, from source: Address?, seconds: UInt32, wallNow: Int64
  ) -> Refusal? {
    unsafe record.pointee.policy.refusal(
      of: knock, from: source, seconds: seconds, wallNow: wallNow)
  }

  /// Whether the policy allows all addresses of a range.
  func allows(_ range: AddressRange) -> Bool { unsafe record.pointee.policy.allows(range) }

  /// The record, for the table of another process.
  public var bytes: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: record, count: Self.size)
  }
}

/// The users. Both processes of the server have such a table. Only numbers of users pass from the receiver to the
/// executor, so an attacker in the receiver cannot change what a user may do.
public struct Users: ~Copyable {
  /// How many users with names a server can have. One without a name may come on top.
  public static let limit = 10_000
  public static let slotCount = limit + 1
  private static let slotBits: UInt32 = 14

  private let users: Storage<User.Record>
  private let names: PositionIndex
  private let keys: PositionIndex
  public private(set) var count = 0
  /// How many users have a key of version 1.
  public private(set) var version1Count = 0
  /// How many slots have ever been used.
  public private(set) var usedCount = 0

  /// - Parameters:
  ///   - users: one more than there can be with names, at most `slotCount`; all zero.
  ///   - names, keys: for as many.
  public init(
    _ users: consuming Storage<User.Record>, names: consuming PositionIndex,
    keys: consuming PositionIndex
  ) {
    precondition(users.count >= 1 && users.count <= Self.slotCount)
    precondition(names.holds(users.count) && keys.holds(users.count))
    self.users = users
    self.names = names
    self.keys = keys
  }

  /// The same table for the process that is about to be forked.
  public func forFork() -> Users {
    var users = Users(self.users.alias(), names: names.alias(), keys: keys.alias())
    (users.count, users.usedCount, users.version1Count) = (count, usedCount, version1Count)
    return users
  }

  public static func slot(of number: UserNumber) -> Int { Int(number & (1 << slotBits - 1)) }

  /// The user in a slot.
  public subscript(slot: Int) -> User? {
    slot < usedCount && users[slot].isPresent ? user(at: slot) : nil
  }

  private func user(at slot: Int) -> User { unsafe User(users.address(of: slot)) }

  /// What the number of a user stands for.
  public enum Lookup {
    case user(User)
    /// There was such a user once.
    case removed
    /// There never was one.
    case unknown
  }

  public func user(numbered number: UserNumber) -> Lookup {
    let slot = Self.slot(of: number)
    guard slot < usedCount, number > 1 << Self.slotBits - 1, number <= users[slot].number else {
      return .unknown
    }
    guard number == users[slot].number, users[slot].isPresent else { return .removed }
    return .user(user(at: slot))
  }

  @inline(never)
  public func slot(named name: UserName) -> Int? {
    names.first(hash: name.hash) { users[$0].name == name }
  }

  public func slot(withKey key: KeyFingerprint) -> Int? {
    keys.first(hash: key.low) { users[$0].key == key }
  }

  /// The slot of the user whose key of version 2 has this id.
  public func slot(withID id: UInt64) -> Int? {
    keys.first(hash: id) { users[$0].key.low == id && users[$0].version == 2 }
  }

  /// A user with a key of version 2, other than the one in a slot.
  public func firstOfVersion2(except slot: Int?) -> User? {
    for other in 0..<usedCount where other != slot && users[other].version == 2 {
      if let user = self[other] { return user }
    }
    return nil
  }

  private var hasUnnamed: Bool { slot(named: .none) != nil }
  public var namedCount: Int { count - (hasUnnamed ? 1 : 0) }

  /// Adds a user whose name and key nobody has. Returns the slot; nil if there is no room.
  public mutating func insert(
    _ name: UserName, key: KeyFingerprint, version: UInt8 = 1, _ policy: Policy
  ) -> Int? {
    guard name.isEmpty || namedCount < users.count - 1, let slot = freeSlot else { return nil }
    let generation = (slot < usedCount ? users[slot].number >> Self.slotBits : 0) + 1
    put(
      User.Record(
        number: generation << Self.slotBits | UInt32(slot), name: name, key: key,
        version: version, policy: policy))
    return slot
  }

  /// Replaces what a user may do.
  public mutating func setPolicy(_ policy: Policy, at slot: Int) { users[slot].policy = policy }

  /// Takes over a user from the table of the executor, in the same slot, which may be in use. Returns the slot.
  public mutating func put(_ bytes: UnsafeRawBufferPointer) -> Int {
    unsafe put(bytes.loadUnaligned(as: User.Record.self))
  }

  @inline(never) @discardableResult
  private mutating func put(_ user: User.Record) -> Int {
    let slot = Self.slot(of: user.number)
    if self[slot] != nil { remove(at: slot) }
    users[slot] = user
    usedCount = max(usedCount, slot + 1)
    count += 1
    if user.version == 1 { version1Count += 1 }
    names.enter(slot, hash: user.name.hash)
    keys.enter(slot, hash: user.key.low)
    return slot
  }

  public mutating func remove(at slot: Int) {
    guard let user = self[slot] else { return }
    names.leave(slot, hash: user.name.hash) { users[$0].name.hash }
    keys.leave(slot, hash: user.key.low) { users[$0].key.low }
    users[slot].isPresent = false
    count -= 1
    if user.version == 1 { version1Count -= 1 }
  }

  /// A slot whose numbers are not all used up.
  private var freeSlot: Int? {
    if count == usedCount { return usedCount < users.count ? usedCount : nil }
    let last = UInt32.max >> Self.slotBits
    for slot in 0..<usedCount
    where !users[slot].isPresent && users[slot].number >> Self.slotBits < last { return slot }
    return usedCount < users.count ? usedCount : nil
  }
}
