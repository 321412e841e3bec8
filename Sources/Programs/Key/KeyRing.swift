import CSodium
import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// The expanded keys of the users. A datagram of version 1 names no key, so all are tried. One of version 2 names the id
/// of its key.
@safe struct KeyRing: ~Copyable, MACKeys {
  /// How many keys of version 1 there can be.
  static let limit = 64

  /// The keys for the requests of a user of version 2.
  private struct RequestKeys: BitwiseCopyable {
    let isPresent: Bool
    let tag: InlineArray<32, UInt8>
    let mask: InlineArray<32, UInt8>
  }

  private let states: UnsafeMutablePointer<crypto_auth_hmacsha256_state>
  /// The slot of the user with each key.
  private let slots: Storage<Int32>
  /// How many keys of version 1 there are.
  private(set) var count = 0
  /// By slot of the user. Only those of users of version 2 are touched.
  private let requestKeys: Storage<RequestKeys>
  private var version2Count = 0
  /// The same for all keys of version 2; nil before the first.
  private var idMaskKey: KeyedMAC?

  /// Nil if out of memory.
  init?() {
    let size = Self.limit * MemoryLayout<crypto_auth_hmacsha256_state>.stride
    guard let memory = unsafe csys_allocate_key(size),
      let slots = Storage<Int32>.mapped(Self.limit),
      let table = unsafe csys_allocate_key_table(
        Users.slotCount * MemoryLayout<RequestKeys>.stride)
    else { return nil }
    unsafe states = unsafe memory.bindMemory(
      to: crypto_auth_hmacsha256_state.self, capacity: Self.limit)
    self.slots = slots
    requestKeys = unsafe Storage(
      adopting: UnsafeMutableBufferPointer(
        start: table.bindMemory(to: RequestKeys.self, capacity: Users.slotCount),
        count: Users.slotCount))
  }

  deinit {
    unsafe Self.erase(states, count)
    // Wiping would touch all of them.
    unsafe csys_release_pages(
      requestKeys.baseAddress, Users.slotCount * MemoryLayout<RequestKeys>.stride)
  }

  /// The compiler copies a deinit to each place where a value may end.
  @inline(never)
  private static func erase(
    _ states: UnsafeMutablePointer<crypto_auth_hmacsha256_state>, _ count: Int
  ) {
    unsafe sodium_memzero(states, count * MemoryLayout<crypto_auth_hmacsha256_state>.stride)
    unsafe csys_release_key(states)
  }

  /// Sets the key of a user. Returns false if there is no room.
  ///
  /// - Parameters:
  ///   - key: as `KeyedMAC.bytes` has it.
  ///   - version: of the key.
  @inline(never)
  mutating func put(_ key: UnsafeRawBufferPointer, version: UInt8, slot: Int) -> Bool {
    remove(slot: slot)
    guard version == 1 else {
      let keys = unsafe key.loadUnaligned(as: Version2Keys.self)
      requestKeys[slot] = RequestKeys(isPresent: true, tag: keys.tag, mask: keys.mask)
      version2Count += 1
      if version2Count == 1 { idMaskKey = KeyedMAC(expanding: keys.idMask.span) }
      return idMaskKey != nil
    }
    guard count < Self.limit else { return false }
    unsafe UnsafeMutableRawBufferPointer(start: states + count, count: KeyedMAC.size)
      .copyMemory(from: key)
    slots[count] = Int32(slot)
    count += 1
    return true
  }

  mutating func remove(slot: Int) {
    if requestKeys[slot].isPresent {
      let none = InlineArray<32, UInt8>(repeating: 0)
      requestKeys[slot] = RequestKeys(isPresent: false, tag: none, mask: none)
      version2Count -= 1
      if version2Count == 0 { idMaskKey = nil }
    }
    for position in 0..<count where slots[position] == slot {
      count -= 1
      slots[position] = slots[count]
      unsafe states[position] = unsafe states[count]
      unsafe sodium_memzero(states + count, KeyedMAC.size)
      return
    }
  }

  func slot(verifying mac: Span<UInt8>, of message: Span<UInt8>) -> Int? {
    var found: Int?
    for position in 0..<count
    where unsafe KeyedMAC.verify(mac, of: message, by: states + position) {
      found = Int(slots[position])
    }
    return found
  }

  var hasVersion1: Bool { count > 0 }

  func id(in request: Span<UInt8>) -> UInt64? {
    switch idMaskKey {
    case .some(let key): Version2.id(in: request, by: key)
    case nil: nil
    }
  }

  func open(_ request: Span<UInt8>, slot: Int) -> Version2.Payload? {
    guard requestKeys[slot].isPresent else { return nil }
    let keys = unsafe requestKeys.address(of: slot)
    return unsafe keys.pointee.tag.span.withUnsafeBufferPointer { tag in
      unsafe keys.pointee.mask.span.withUnsafeBufferPointer { mask in
        unsafe Version2.Payload(
          opening: request, tagKey: DerivedKey(tag), maskKey: DerivedKey(mask))
      }
    }
  }

  /// How many datagrams in a second this machine can try all keys for, if it has nothing else to do.
  func measuredRate() -> Int64 {
    let mac = InlineArray<32, UInt8>(repeating: 0)
    let message = InlineArray<29, UInt8>(repeating: 0)  // That of IPv6.
    let rounds: Int64 = 4
    var shortest = Int64.max
    for _ in 0..<3 {
      let start = SystemClock.monotonic()
      for _ in 0..<rounds { _ = slot(verifying: mac.span, of: message.span) }
      shortest = min(shortest, SystemClock.monotonic() - start)
    }
    return rounds * Microseconds.second / max(1, shortest)
  }
}

extension KeyRing {
  /// The rate of datagrams, in a second, that tests show the server to stand.
  private static let floodRate: Int64 = 20_000

  /// Logs if so many keys are too much for this machine.
  @inline(never)
  func logRate() {
    guard count > 1 else { return }
    let rate = measuredRate()
    guard rate < Self.floodRate else { return }
    log.warning(
      """
      warning: with \(count) keys, this machine can check at most \(rate) datagrams in a second; \
      in a flood of more, knocks are lost
      """)
  }
}
