import CSodium
import KnockProtocol

/// HMAC-SHA256 by libsodium (RFC 2104), for tests of what needs a key.
public struct TestKey: MACKey, Sendable {
  private let key: [UInt8]

  public init(_ key: [UInt8]) { self.key = key }

  public func mac(of message: Span<UInt8>) -> InlineArray<32, UInt8> {
    var state = crypto_auth_hmacsha256_state()
    var mac = [UInt8](repeating: 0, count: 32)
    _ = crypto_auth_hmacsha256_init(&state, key, key.count)
    message.withUnsafeBufferPointer {
      _ = crypto_auth_hmacsha256_update(&state, $0.baseAddress, UInt64($0.count))
    }
    _ = crypto_auth_hmacsha256_final(&state, &mac)
    return InlineArray { mac[$0] }
  }

  public func verify(_ mac: Span<UInt8>, of message: Span<UInt8>) -> Bool {
    let expected = self.mac(of: message)
    return mac.count == 32 && mac.indices.allSatisfy { mac[$0] == expected[$0] }
  }
}

/// The keys of the users in slots 0, 1, 2 and so on: those of version 1 first.
public struct TestKeys: MACKeys {
  private let keys: [TestKey]
  private let version2: [DerivedKey]

  public init(_ keys: [[UInt8]], version2: [DerivedKey] = []) {
    self.keys = keys.map { TestKey($0) }
    self.version2 = version2
  }

  public var hasVersion1: Bool { !keys.isEmpty }

  public func slot(verifying mac: Span<UInt8>, of message: Span<UInt8>) -> Int? {
    keys.firstIndex { $0.verify(mac, of: message) }
  }

  public func id(in request: Span<UInt8>) -> UInt64? {
    version2.first.map { Version2.id(in: request, by: $0.idMask) }
  }

  public func open(_ request: Span<UInt8>, slot: Int) -> Version2.Payload? {
    let key = version2[slot - keys.count]
    return Version2.Payload(opening: request, tagKey: key.tag, maskKey: key.mask)
  }
}
