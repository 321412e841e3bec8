/// The checksum of a record in a file. It reveals an unfinished or damaged record, but not a forged one.
///
/// FNV-1a, with 64 bits at a time instead of 8.
public struct Checksum: BitwiseCopyable {
  public private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  public init() {}

  public mutating func add(_ number: UInt64) {
    value = (value ^ number) &* 0x0000_0100_0000_01B3
    // The multiplication carries bits only upwards.
    value ^= value >> 32
  }
}
