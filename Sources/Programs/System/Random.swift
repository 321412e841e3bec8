import CSodium
import KnockBase

extension MutableSpan<UInt8> {
  /// Fills the bytes from the system's source of random numbers. Nobody can predict them.
  mutating func fillWithRandomBytes() {
    unsafe withUnsafeMutableBufferPointer { bytes in
      guard let start = bytes.baseAddress else { return }
      unsafe randombytes_buf(start, bytes.count)
    }
  }
}
