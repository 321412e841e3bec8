import KnockBase
import Testing

@Suite struct ChecksumTests {
  @Test(
    arguments: [
      ([], 0xCBF2_9CE4_8422_2325), ([0], 0xAF63_BD4C_2962_0A93), ([1], 0xAF63_BC4C_2962_0A60),
      ([1, 2], 0x6883_576A_3914_F3EC), ([.max], 0x509C_41B3_2962_07DD),
    ] as [([UInt64], UInt64)])
  func `checksums are the same in each version`(numbers: [UInt64], expected: UInt64) {
    var sum = Checksum()
    for number in numbers { sum.add(number) }
    #expect(sum.value == expected)
  }
}
