import KnockBase
import KnockProtocol
import Testing

@testable import KnockServer

private let all = AddressFamilies { _ in true }

private func bytes(_ knock: Knock) -> [UInt8] {
  KnockMessage(knock).withBytes { span in span.indices.map { span[$0] } }
}

@Test func aKnockArrivesAsItWasSent() {
  let addresses: [Address] = [
    .inet(0xC000_0201), .inet6(high: 0x2001_0DB8_0000_0000, low: 0x0001_0002),
  ]
  for address in addresses {
    for command in [Command.open, .close] {
      let knock = Knock(command: command, address: address)
      let message = bytes(knock)
      #expect(message.count == KnockMessage.size)
      #expect(Knock(message: message.span, families: all) == knock)
    }
  }
  #expect(
    bytes(Knock(command: .close, address: .inet(0xC000_0201)))
      == [2, 4, 192, 0, 2, 1] + [UInt8](repeating: 0, count: 12))
}

@Test func whatNoSoundReceiverSendsIsNotTaken() {
  let good = bytes(Knock(command: .open, address: .inet(0xC000_0201)))
  for length in 0...40 where length != KnockMessage.size {
    let message = Array((good + good + good).prefix(length))
    #expect(Knock(message: message.span, families: all) == nil)
  }
  for (offset, values) in [(0, 0...255), (1, 0...255), (6, 1...255), (17, 1...255)] {
    for value in values where good[offset] != UInt8(value) {
      var message = good
      message[offset] = UInt8(value)
      let knock = Knock(message: message.span, families: all)
      // The other command, and an IPv6 address that begins with the bytes of the IPv4 one.
      let isSound = offset == 0 && value == 2 || offset == 1 && value == 16
      #expect((knock != nil) == isSound, "\(offset) \(value)")
    }
  }
  let onlyInet = AddressFamilies { $0 == .inet }
  let inet6 = bytes(Knock(command: .open, address: .inet6(high: 1, low: 1)))
  #expect(Knock(message: inet6.span, families: onlyInet) == nil)
}

@Test(arguments: [
  [0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1], [UInt8](repeating: 0, count: 16),
  [255] + [UInt8](repeating: 1, count: 15),
  // An IPv4 address in an IPv6 one.
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1],
])
func anAddressThatNoHostHasIsNotTaken(address: [UInt8]) {
  let rest = [UInt8](repeating: 0, count: 16 - address.count)
  let message = [1, UInt8(address.count)] + address + rest
  #expect(Knock(message: message.span, families: all) == nil)
}
