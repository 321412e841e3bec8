import KnockBase
import KnockProtocol
import TestSupport
import Testing

/// RFC 5769, section 2: the transaction, and answers to it.
private let transaction: InlineArray<12, UInt8> = [
  0xB7, 0xE7, 0xA7, 0x01, 0xBC, 0x34, 0xD6, 0x86, 0xFA, 0x87, 0xDF, 0xAE,
]
private let software: [UInt8] = [0x80, 0x22, 0, 11] + Array("test vector ".utf8)
private let inet: [UInt8] = [0, 0x20, 0, 8, 0, 1, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43]
private let inet6: [UInt8] = [
  0, 0x20, 0, 20, 0, 2, 0xA1, 0x47, 0x01, 0x13, 0xA9, 0xFA, 0xA5, 0xD3, 0xF1, 0x79, 0xBC, 0x25,
  0xF4, 0xB5, 0xBE, 0xD2, 0xB9, 0xD9,
]
private let integrity: [UInt8] = [0, 8, 0, 20] + [UInt8](repeating: 0x2B, count: 20)
private let fingerprint: [UInt8] = [0x80, 0x28, 0, 4, 0xC0, 0x7D, 0x4C, 0x96]

private func answer(_ attributes: [UInt8]..., type: UInt8 = 1) -> [UInt8] {
  let attributes = attributes.flatMap { $0 }
  return [1, type, UInt8(attributes.count >> 8), UInt8(attributes.count & 255)]
    + [0x21, 0x12, 0xA4, 0x42] + transaction.indices.map { transaction[$0] } + attributes
}

private func read(
  _ answer: [UInt8], _ family: AddressFamily = .inet
) -> Result<Address, StunRequest.Failure> {
  let request = StunRequest(transaction: transaction)
  do throws(StunRequest.Failure) {
    return .success(try request.address(in: answer.span, onlyInet: family == .inet))
  } catch { return .failure(error) }
}

/// XOR-MAPPED-ADDRESS of any bytes.
private func mapped(_ family: UInt8, _ address: [UInt8]) -> [UInt8] {
  let mask: [UInt8] = [0x21, 0x12, 0xA4, 0x42] + transaction.indices.map { transaction[$0] }
  let hidden = address.indices.map { address[$0] ^ mask[$0] }
  return [0, 0x20, 0, UInt8(4 + address.count), 0, family, 0, 0] + hidden
}

@Suite struct StunTests {
  @Test func `a request is a header and nothing else`() {
    let request = StunRequest(transaction: transaction)
    let bytes = request.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    #expect(
      bytes == [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42] + transaction.indices.map { transaction[$0] })
  }

  @Test func `the answers of RFC 5769 are understood`() {
    #expect(
      read(answer(software, inet, integrity, fingerprint)) == .success(.inet(0xC000_0201)))
    #expect(
      read(answer(software, inet6, integrity, fingerprint), .inet6)
        == .success(.inet6(high: 0x2001_0DB8_1234_5678, low: 0x0011_2233_4455_6677)))
  }

  @Test func `the first of several addresses counts`() {
    #expect(read(answer(inet, mapped(1, [9, 9, 9, 9]))) == .success(.inet(0xC000_0201)))
  }

  @Test func `what need not be understood is skipped`() {
    let bytes = answer([0x80, 0, 0, 1, 0, 0, 0, 0], inet, [0xFF, 0xFF, 0, 0])
    #expect(read(bytes) == .success(.inet(0xC000_0201)))
  }

  @Test func `an answer cut anywhere or with something behind it is refused`() {
    for (bytes, family) in [(answer(inet), AddressFamily.inet), (answer(inet6), .inet6)] {
      for count in bytes.indices {
        #expect(read(Array(bytes[..<count]), family) == .failure(.malformed))
      }
      for count in 1...4 {
        #expect(read(bytes + [UInt8](repeating: 0, count: count), family) == .failure(.malformed))
      }
    }
  }

  @Test func `each byte of cookie and transaction counts`() {
    for index in 4..<20 {
      var bytes = answer(inet)
      bytes[index] ^= 1
      #expect(read(bytes) == .failure(.otherTransaction))
    }
  }

  @Test(arguments: [
    (answer(inet, type: 0x11), StunRequest.Failure.refused),
    (answer(inet, type: 0x00), .malformed),
    (answer(inet, type: 0x21), .malformed),
    (answer(), .noAddress),
    (answer(software), .noAddress),
    // MAPPED-ADDRESS, which a translator may have changed.
    (answer([0, 1, 0, 8, 0, 1, 0, 0, 192, 0, 2, 1]), .noAddress),
    (answer([0, 0x21, 0, 0], inet), .unknownAttribute),
    (answer(inet, [0x7F, 0xFF, 0, 0]), .unknownAttribute),
    (answer([0, 0x20, 0, 4, 0, 1, 0, 0]), .malformed),
    (answer([0, 0x20, 0, 0]), .malformed),
    (answer([0, 0x20, 0, 7, 0, 1, 0, 0, 1, 2, 3, 0]), .malformed),
    (answer([0, 0x20, 0, 9, 0, 1, 0, 0, 1, 2, 3, 4]), .malformed),
    (answer([0x80, 0x22, 0xFF, 0xFF]), .malformed),
    (answer(inet6), .otherFamily),
    (answer(mapped(2, [192, 0, 2, 1])), .otherFamily),
    (answer(mapped(3, [192, 0, 2, 1])), .otherFamily),
    (answer(mapped(1, [UInt8](repeating: 1, count: 16))), .otherFamily),
    (answer(mapped(1, [0, 0, 0, 0])), .noHost),
    (answer(mapped(1, [255, 255, 255, 255])), .noHost),
    (answer(mapped(1, [224, 0, 0, 1])), .noHost),
  ])
  func `what is of no use is refused`(answer: [UInt8], failure: StunRequest.Failure) {
    #expect(read(answer) == .failure(failure))
  }

  @Test func `over IPv6 an IPv4 address is that of NAT64`() {
    #expect(read(answer(inet), .inet6) == .success(.inet(0xC000_0201)))
    let bytes = answer(mapped(2, [UInt8](repeating: 0, count: 10) + [255, 255, 192, 0, 2, 1]))
    #expect(read(bytes, .inet6) == .success(.inet(0xC000_0201)))
  }
}

@Suite struct EndpointTests {
  private func read(_ text: String) -> String? {
    let bytes = Array(text.utf8)
    guard let endpoint = Endpoint(bytes.span) else { return nil }
    let host = String(decoding: bytes[endpoint.host], as: UTF8.self)
    return host + (endpoint.port.map { " \($0)" } ?? "")
  }

  @Test(
    arguments: [
      ("stun.example.org", "stun.example.org"), ("stun.example.org:3479", "stun.example.org 3479"),
      ("192.0.2.1:1", "192.0.2.1 1"), ("2001:db8::1", "2001:db8::1"), ("::1", "::1"),
      ("[2001:db8::1]", "2001:db8::1"), ("[::1]:65535", "::1 65535"), ("[a]:5", "a 5"),
      ("", nil), (":5", nil), ("a:", nil), ("a:0", nil), ("a:65536", nil), ("a:b", nil),
      ("[]", nil),
      ("[", nil), ("[::1", nil), ("[::1]5", nil), ("[::1]:", nil), ("[::1]:0", nil), ("[]:5", nil),
    ] as [(String, String?)])
  func `a host with or without a port`(text: String, expected: String?) {
    #expect(read(text) == expected)
  }
}
