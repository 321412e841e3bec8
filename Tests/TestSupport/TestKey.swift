import CSodium
import KnockProtocol

/// HMAC-SHA256 by libsodium (RFC 2104), for tests of what needs a key.
public struct TestKey: MACKey {
  private let key: [UInt8]

  public init(_ key: [UInt8]) { self.key = key }

  public func tag(of message: Span<UInt8>) -> InlineArray<32, UInt8> {
    var state = crypto_auth_hmacsha256_state()
    var tag = [UInt8](repeating: 0, count: 32)
    _ = crypto_auth_hmacsha256_init(&state, key, key.count)
    message.withUnsafeBufferPointer {
      _ = crypto_auth_hmacsha256_update(&state, $0.baseAddress, UInt64($0.count))
    }
    _ = crypto_auth_hmacsha256_final(&state, &tag)
    return InlineArray { tag[$0] }
  }

  public func verify(_ tag: Span<UInt8>, of message: Span<UInt8>) -> Bool {
    let expected = self.tag(of: message)
    return tag.count == 32 && tag.indices.allSatisfy { tag[$0] == expected[$0] }
  }
}
