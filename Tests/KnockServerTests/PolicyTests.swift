import KnockBase
import KnockProtocol
import KnockServer
import Testing

private let inet = Knock(command: .open, address: .inet(0xC000_0201))  // 192.0.2.1
private let inet6 = Knock(command: .open, address: .inet6(high: 0x2001_0DB8 << 32, low: 1))

private func refusal(
  _ knock: Knock, _ policy: Policy, from source: Address? = nil, seconds: UInt32 = 0,
  at time: Int64 = 0
) -> Refusal? {
  policy.refusal(of: knock, from: source, seconds: seconds, wallNow: time)
}

@Suite struct PolicyTests {
  @Test func `without limits all is allowed`() {
    #expect(refusal(inet, policy()) == nil)
    #expect(refusal(inet6, policy(), at: .max - 1) == nil)
  }

  @Test func `a family without a set is refused`() {
    let policy = policy(families: AddressFamilies { $0 == .inet })
    #expect(refusal(inet6, policy) == .noSetForFamily)
    #expect(refusal(inet, policy) == nil)
  }

  @Test func `from its end on a key is refused`() {
    var policy = policy()
    policy.expires = 1000
    #expect(refusal(inet, policy, at: 999) == nil)
    #expect(refusal(inet, policy, at: 1000) == .expiredKey)
  }

  @Test func `only the commands of the user are allowed`() {
    var policy = policy()
    policy.mayClose = false
    let close = Knock(command: .close, address: inet.address)
    #expect(refusal(close, policy) == .commandNotAllowed)
    #expect(refusal(inet, policy) == nil)
    policy.mayOpen = false
    #expect(refusal(inet, policy) == .commandNotAllowed)
  }

  @Test func `a time is refused if nothing ends what it opens`() {
    var policy = policy()
    policy.inet6.isTimed = true
    #expect(refusal(inet, policy, seconds: 1) == .timeNotKept)
    #expect(refusal(inet, policy, seconds: 0) == nil)
    #expect(refusal(inet6, policy, seconds: .max) == nil)
  }

  @Test func `the whole range must lie in one of the user's`() {
    var policy = policy()
    _ = policy.allow(AddressRange(.inet(0xC000_0280), prefixLength: 25))
    #expect(refusal(inet, policy) == .addressNotAllowed)
    #expect(refusal(inet6, policy) == .addressNotAllowed)
    _ = policy.allow(AddressRange(inet.address, prefixLength: 26))
    #expect(refusal(inet, policy) == nil)
    policy.inet.prefixLength = 25
    #expect(refusal(inet, policy) == .addressNotAllowed)
  }

  @Test func `there is room for so many ranges`() {
    var policy = policy()
    for _ in 0..<Policy.rangeLimit {
      let hasRoom = policy.allow(AddressRange(inet.address, prefixLength: 32))
      #expect(hasRoom)
    }
    let hasRoom = policy.allow(AddressRange(inet6.address, prefixLength: 128))
    #expect(!hasRoom)
    #expect(refusal(inet6, policy) == .addressNotAllowed)
  }

  @Test func `a user of the source alone names no other address`() {
    var policy = policy()
    policy.isOnlyForSource = true
    #expect(refusal(inet, policy, from: inet.address) == nil)
    #expect(refusal(inet, policy, from: inet6.address) == .addressNotAllowed)
    #expect(refusal(inet, policy) == .addressNotAllowed)
  }
}
