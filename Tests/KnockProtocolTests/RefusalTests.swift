import KnockBase
import KnockProtocol
import TestSupport
import Testing

@Suite struct RefusalTests {
  @Test(arguments: [
    ("0.0.0.0", Refusal.unspecifiedAddress), ("::", .unspecifiedAddress),
    ("::ffff:0.0.0.0", .unspecifiedAddress), ("255.255.255.255", .broadcastAddress),
    ("::ffff:255.255.255.255", .broadcastAddress), ("224.0.0.1", .multicastAddress),
    ("239.255.255.255", .multicastAddress), ("ff02::1", .multicastAddress),
    ("ff00::", .multicastAddress), ("::ffff:224.0.0.1", .multicastAddress),
    ("0.0.0.1", nil), ("223.255.255.255", nil), ("240.0.0.1", nil), ("255.255.255.254", nil),
    ("127.0.0.1", nil), ("::1", nil), ("fe80::1", nil), ("feff::", nil),
  ])
  func `addresses that no host can have are refused`(input: String, refusal: Refusal?) throws {
    let parsed = try #require(address(input))
    #expect(parsed.refusal == refusal)
  }
}
