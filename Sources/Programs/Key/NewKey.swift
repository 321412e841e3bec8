import CSodium
import KnockBase
import KnockProtocol

/// Which server a key of version 2 is for: random bytes that all its keys have.
typealias ServerID = InlineArray<16, UInt8>

/// New keys. The caller wipes the memory that the text is in.
extension StorageText {
  /// Appends a key of version 1: 32 random bytes. It never begins with `-`: as the PSK operand it would look like an
  /// option, here and in the original.
  mutating func appendNewKey() {
    var random = InlineArray<32, UInt8>(repeating: 0)
    var bytes = random.mutableSpan
    repeat { bytes.fillWithRandomBytes() } while bytes[0] >> 2 == 62
    append(base64: bytes.span)
    unsafe sodium_memzero(&random, 32)
  }

  /// Appends a key of version 2.
  ///
  /// - Parameter server: nil for a new server.
  mutating func appendNewKey(for server: ServerID?) {
    var key = Version2.KeyBytes()
    var random = key.bytes.mutableSpan
    random.fillWithRandomBytes()
    if let server {
      for index in Version2.KeyBytes.serverID { key.bytes[index] = server[index] }
    }
    key.setCheck()
    append("pk2.")
    append(base64: key.bytes.span)
    unsafe sodium_memzero(&key.bytes, Version2.KeyBytes.size)
  }

  /// Appends base64url (RFC 4648, section 5) without padding.
  private mutating func append(base64 bytes: Span<UInt8>) {
    // For 52 bytes, and a NUL.
    var text = InlineArray<71, UInt8>(repeating: 0)
    var characters = text.mutableSpan
    unsafe characters.withUnsafeMutableBytes { text in
      unsafe bytes.withUnsafeBufferPointer { bytes in
        guard let start = unsafe text.baseAddress?.assumingMemoryBound(to: CChar.self) else {
          return
        }
        _ = unsafe sodium_bin2base64(
          start, text.count, bytes.baseAddress, bytes.count,
          sodium_base64_VARIANT_URLSAFE_NO_PADDING)
      }
    }
    for index in 0..<70 where text[index] != 0 { append(byte: text[index]) }
    unsafe sodium_memzero(&text, 71)
  }
}
