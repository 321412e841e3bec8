import CSodium
import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// A key in its expanded form, for HMAC-SHA256 by libsodium. It is wiped when the value ends. It is neither swapped
/// nor dumped, if the system can prevent that.
///
/// Of a key of version 1, this is the state after the key block, which is copied for each message. Of a key of version
/// 2, it is the keys that are derived from it. The key itself is not kept.
@safe struct KeyedMAC: ~Copyable, MACKey {
  /// The size of an expanded key in bytes.
  static let size = MemoryLayout<crypto_auth_hmacsha256_state>.size

  private let state: UnsafeMutablePointer<crypto_auth_hmacsha256_state>
  /// Of the datagrams that it signs: 1 or 2.
  private(set) var version: UInt8 = 1

  /// - Parameter key: at least one byte. A key over 64 bytes is hashed first (RFC 2104).
  init?(expanding key: Span<UInt8>) {
    self.init()
    unsafe key.withUnsafeBufferPointer { key in
      guard let start = key.baseAddress else { return }
      _ = unsafe crypto_auth_hmacsha256_init(state, start, key.count)
    }
    // The padded key. It has been hashed, and the next block replaces it.
    unsafe sodium_memzero(&state.pointee.ictx.buf, 64)
    unsafe sodium_memzero(&state.pointee.octx.buf, 64)
  }

  /// Another value with the same key.
  init?(copying other: borrowing KeyedMAC) {
    self.init()
    unsafe state.pointee = unsafe other.state.pointee
    version = other.version
  }

  /// A key of version 2.
  ///
  /// - Throws: `check`.
  init?(_ key: borrowing Version2.KeyBytes) throws(Version2.KeyTextFault) {
    self.init()
    version = 2
    let isWhole = key.withKeys { secret, server in
      guard key.isWhole(by: secret) else { return false }
      unsafe keys.pointee.id = key.id(by: secret)
      unsafe keys.pointee.server =
        key.derive(.server, by: server).span.littleEndian(at: 0, count: 8)
      let labels: InlineArray<5, Version2.Label> = [.tag, .mask, .answerTag, .answerMask, .idMask]
      for index in labels.indices {
        let derived = key.derive(labels[index], by: labels[index] == .idMask ? server : secret)
        unsafe UnsafeMutableRawPointer(state).advanced(by: Version2Keys.derivedKeys + 32 * index)
          .assumingMemoryBound(to: InlineArray<32, UInt8>.self).pointee = derived
      }
      return true
    }
    guard isWhole else { throw .check }
  }

  /// The keys that are derived from a key of version 2.
  var keys: UnsafeMutablePointer<Version2Keys> {
    unsafe UnsafeMutableRawPointer(state).assumingMemoryBound(to: Version2Keys.self)
  }

  /// Nil if the system is out of memory.
  private init?() {
    guard let memory = unsafe csys_allocate_key(Self.size) else { return nil }
    unsafe state = unsafe memory.bindMemory(to: crypto_auth_hmacsha256_state.self, capacity: 1)
  }

  /// Keeps the keys out of swap and core dumps in a new process, too.
  static func lockMemory() { csys_lock_keys() }

  deinit { unsafe Self.erase(state) }

  /// The compiler copies a deinit to each place where a value may end.
  @inline(never)
  private static func erase(_ state: UnsafeMutablePointer<crypto_auth_hmacsha256_state>) {
    unsafe sodium_memzero(state, Self.size)
    unsafe csys_release_key(state)
  }

  /// See `KeyFingerprint`.
  @inline(never)
  var fingerprint: KeyFingerprint {
    guard version == 2 else { return KeyFingerprint(of: self) }
    return unsafe KeyFingerprint(low: keys.pointee.id, high: keys.pointee.server)
  }

  /// The expanded key, for another process of ours.
  var bytes: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(start: state, count: Self.size)
  }

  func mac(of message: Span<UInt8>) -> InlineArray<32, UInt8> {
    unsafe Self.mac(of: message, by: state)
  }

  func verify(_ mac: Span<UInt8>, of message: Span<UInt8>) -> Bool {
    unsafe Self.verify(mac, of: message, by: state)
  }

  // Inlined with `verify`: a flood of datagrams with bad MACs spends its time here.
  @inline(__always)
  private static func mac(
    of message: Span<UInt8>, by state: UnsafePointer<crypto_auth_hmacsha256_state>
  ) -> InlineArray<32, UInt8> {
    var state = unsafe state.pointee
    return unsafe mac(of: message, endingWith: &state)
  }

  /// - Parameter state: a copy of the one after the key block.
  static func mac(
    of message: Span<UInt8>,
    endingWith state: UnsafeMutablePointer<crypto_auth_hmacsha256_state>
  ) -> InlineArray<32, UInt8> {
    var mac = InlineArray<32, UInt8>(repeating: 0)
    var macBytes = mac.mutableSpan
    unsafe message.withUnsafeBufferPointer { message in
      guard let start = message.baseAddress else { return }
      _ = unsafe crypto_auth_hmacsha256_update(state, start, UInt64(message.count))
    }
    // Wipes the copy of the state, too.
    unsafe macBytes.withUnsafeMutableBufferPointer { mac in
      guard let start = mac.baseAddress else { return }
      _ = unsafe crypto_auth_hmacsha256_final(state, start)
    }
    return mac
  }

  static func verify(
    _ mac: Span<UInt8>, of message: Span<UInt8>,
    by state: UnsafePointer<crypto_auth_hmacsha256_state>
  ) -> Bool {
    areEqual(mac, unsafe Self.mac(of: message, by: state))
  }

  /// Compares in constant time.
  static func areEqual(_ mac: Span<UInt8>, _ expected: InlineArray<32, UInt8>) -> Bool {
    guard mac.count == expected.count else { return false }
    return unsafe mac.withUnsafeBufferPointer { mac in
      unsafe expected.span.withUnsafeBufferPointer { expected in
        guard let mac = mac.baseAddress, let expected = expected.baseAddress else {
          return false
        }
        return unsafe crypto_verify_32(mac, expected) == 0
      }
    }
  }

  struct SelfTestError: Error {}

  /// Starts libsodium and tests it. It must compute the MAC in RFC 4231, section 4.3 (test case 2). It must refuse
  /// the same MAC with one bit changed.
  static func testItself() throws(SelfTestError) {
    guard sodium_init() >= 0, computesKnownAnswer() else { throw SelfTestError() }
  }

  private static func computesKnownAnswer() -> Bool {
    let text: InlineArray<4, UInt8> = [0x4A, 0x65, 0x66, 0x65]  // "Jefe"
    let message: InlineArray<28, UInt8> = [
      // "what do ya want for nothing?"
      0x77, 0x68, 0x61, 0x74, 0x20, 0x64, 0x6F, 0x20, 0x79, 0x61, 0x20, 0x77, 0x61, 0x6E,
      0x74, 0x20, 0x66, 0x6F, 0x72, 0x20, 0x6E, 0x6F, 0x74, 0x68, 0x69, 0x6E, 0x67, 0x3F,
    ]
    var mac: InlineArray<32, UInt8> = [
      0x5B, 0xDC, 0xC1, 0x46, 0xBF, 0x60, 0x75, 0x4E, 0x6A, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75,
      0xC7, 0x5A, 0x00, 0x3F, 0x08, 0x9D, 0x27, 0x39, 0x83, 0x9D, 0xEC, 0x58, 0xB9, 0x64, 0xEC,
      0x38, 0x43,
    ]
    guard let key = KeyedMAC(expanding: text.span), key.verify(mac.span, of: message.span) else {
      return false
    }
    mac[31] ^= 1
    return !key.verify(mac.span, of: message.span)
  }
}

extension KeyedMAC.SelfTestError: MessageConvertible {
  var message: Message { "the self-test of HMAC-SHA256 failed: this program is broken" }
}

extension Version2.KeyBytes {
  /// Makes the key whole.
  mutating func setCheck() {
    let check = withKeys { secret, _ in derive(.check, by: secret) }
    for index in Self.check { bytes[index] = check[index - Self.check.lowerBound] }
  }

  /// Calls `body` with the keys that make MACs with the secret and with the server id.
  fileprivate func withKeys<Result>(_ body: (DerivedKey, DerivedKey) -> Result) -> Result {
    unsafe bytes.span.withUnsafeBufferPointer { bytes in
      unsafe body(
        DerivedKey(UnsafeBufferPointer(rebasing: bytes[Self.secret])),
        DerivedKey(UnsafeBufferPointer(rebasing: bytes[Self.serverID])))
    }
  }
}
