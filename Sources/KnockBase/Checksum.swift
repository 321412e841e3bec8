/// Tells a record that was written to its end from one that was not, or that has changed since. It is
/// no protection against somebody who means to deceive.
///
/// FNV-1a, with 64 bits at a time in the place of 8.
public struct Checksum {
  public private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  public init() {}

  public mutating func add(_ number: UInt64) {
    value = (value ^ number) &* 0x0000_0100_0000_01B3
    // What is multiplied moves up only.
    value ^= value >> 32
  }
}
