import KnockBase
import TestSupport
import Testing

extension AddressNumber {
  fileprivate init(_ number: UInt128) {
    self.init(high: UInt64(number >> 64), low: UInt64(truncatingIfNeeded: number))
  }
}

/// Numbers at which one of the halves overflows, and numbers that look random.
private func numbers() -> [UInt128] {
  let half = UInt128(UInt64.max)
  var generator = Generator(seed: 7)
  return [0, 1, 2, half - 1, half, half + 1, half << 64, half << 64 + 1, .max - 1, .max]
    + (0..<50).map { _ in UInt128.random(in: 0...(.max), using: &generator) }
}

@Test func addressNumbersAreThoseOfTheStandardLibrary() {
  for number in numbers() {
    let address = AddressNumber(number)
    #expect(address.next == AddressNumber(number &+ 1))
    #expect(address.previous == AddressNumber(number &- 1))
    for other in numbers() {
      #expect((address < AddressNumber(other)) == (number < other))
      guard number <= other else { continue }
      let middle = address.middle(to: AddressNumber(other))
      #expect(middle == AddressNumber(number + (other - number) / 2), "\(number) \(other)")
    }
  }
}

@Test func onlyAPrefixHasALength() {
  func length(_ first: UInt64, _ last: UInt64, _ family: AddressFamily = .inet) -> Int? {
    AddressNumber(low: first).prefixLength(to: AddressNumber(low: last), of: family)
  }
  #expect(length(7, 7) == 32)
  #expect(length(0x100, 0x1FF) == 24)
  #expect(length(0, 0xFFFF_FFFF) == 0)
  #expect(length(0, .max, .inet6) == 64)
  #expect(length(0x100, 0x1FE) == nil)
  #expect(length(0x101, 0x1FF) == nil)
  #expect(length(0x80, 0x17F) == nil)
  let greatest = AddressRange.greatest(of: .inet6)
  #expect(AddressNumber(low: 0).prefixLength(to: greatest, of: .inet6) == 0)
}
