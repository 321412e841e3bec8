import Foundation
import KnockBase
import TestSupport
import Testing

@Suite struct AddressTests {
  @Test(arguments: [
    // RFC 5952, sections 4 and 5.
    ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ("2001:0db8::0001", "2001:db8::1"),
    ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
    ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
    ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
    ("2001:DB8::AbC", "2001:db8::abc"),
    ("::", "::"),
    ("::1", "::1"),
    ("1::", "1::"),
    ("0:1:0:0:0:0:0:0", "0:1::"),
    ("0:0:1:0:0:1:0:0", "::1:0:0:1:0:0"),
    ("1:0:0:2:0:0:3:0", "1::2:0:0:3:0"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("::1.2.3.4", "::102:304"),
    ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
    ("::ffff:0:102:304", "::ffff:0:102:304"),
    ("1::ffff:102:304", "1::ffff:102:304"),
  ])
  func `IPv6 text is that of RFC 5952`(input: String, expected: String) throws {
    var bytes = [UInt8](repeating: 0, count: 16)
    try #require(inet_pton(AF_INET6, input, &bytes) == 1)
    let parsed = try #require(address(bytes))
    #expect(text { $0.append(parsed) } == expected)
  }

  @Test func `IPv6 text of any address reads back as that address`() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<5000 {
      // Many zero groups, so that every place of a run is met.
      let groups = (0..<8).map { _ in UInt16.random(in: 0...2, using: &generator) >> 1 }
      let bytes = groups.flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
      let parsed = try #require(address(bytes))
      var readBack = [UInt8](repeating: 0, count: 16)
      #expect(inet_pton(AF_INET6, text { $0.append(parsed) }, &readBack) == 1)
      #expect(readBack == bytes)
    }
  }

  @Test func `IPv4 text is dotted decimal`() throws {
    #expect(text { $0.append(Address.inet(0xC000_02FF)) } == "192.0.2.255")
    #expect(text { $0.append(Address.inet(0x0102_0300)) } == "1.2.3.0")
  }

  @Test func `an IPv4-mapped address is the IPv4 address`() {
    let mapped = address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1])
    #expect(mapped == .inet(0xC000_0201))
    #expect(mapped == address([192, 0, 2, 1]))
  }

  @Test func `only 4 and 16 bytes are an address`() {
    for count in 0...64 {
      let parsed = address([UInt8](repeating: 1, count: count))
      #expect((parsed != nil) == (count == 4 || count == 16))
    }
  }

  /// The first and the last address of each range, and their neighbours.
  @Test(arguments: [
    ("0.255.255.255", true), ("1.0.0.0", false), ("9.255.255.255", false), ("10.0.0.0", true),
    ("10.255.255.255", true), ("11.0.0.0", false), ("100.63.255.255", false), ("100.64.0.0", true),
    ("100.127.255.255", true), ("100.128.0.0", false), ("126.255.255.255", false),
    ("127.0.0.0", true), ("128.0.0.0", false), ("169.253.255.255", false), ("169.254.0.0", true),
    ("169.254.255.255", true), ("169.255.0.0", false), ("172.15.255.255", false),
    ("172.16.0.0", true), ("172.31.255.255", true), ("172.32.0.0", false),
    ("191.255.255.255", false), ("192.0.0.0", true), ("192.0.0.255", true), ("192.0.1.0", false),
    ("192.0.2.1", false), ("192.167.255.255", false), ("192.168.0.0", true),
    ("192.168.255.255", true), ("192.169.0.0", false), ("198.17.255.255", false),
    ("198.18.0.0", true), ("198.19.255.255", true), ("198.20.0.0", false), ("198.51.100.1", false),
    ("203.0.113.1", false), ("223.255.255.255", false), ("240.0.0.0", true),
    ("::1", true), ("64:ff9b::c000:201", true), ("64:ff9b:1::1", true), ("100::1", true),
    ("1fff:ffff::", true), ("2000::", false), ("2001::1", false), ("2001:1:ffff::", false),
    ("2001:2::", true), ("2001:2:0:ffff::", true), ("2001:2:1::", false), ("2001:f:ffff::", false),
    ("2001:10::", true), ("2001:1f:ffff::", true), ("2001:20::", false), ("2001:db8::1", false),
    ("2002::1", false), ("3fff:ffff::", false), ("4000::", true), ("5f00::1", true),
    ("fc00::1", true), ("fdff::1", true), ("fe80::1", true), ("fec0::1", true),
  ])
  func `private addresses are those that no public server sees`(input: String, isPrivate: Bool) {
    #expect(address(input)?.isPrivate == isPrivate)
  }

  @Test(arguments: [
    ("192.0.2.1", false), ("64:ff9b::", true), ("64:ff9b::ffff:ffff", true),
    ("64:ff9b::1:0:0", false), ("64:ff9b:0:1::", false), ("64:ff9a::1", false),
    ("64:ff9b:1::", true), ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", true), ("64:ff9b:2::", false),
  ])
  func `translated addresses are those of NAT64`(input: String, isTranslated: Bool) {
    #expect(address(input)?.isTranslated == isTranslated)
  }
}
