import KnockBase
import KnockProtocol
import KnockServer
import Testing

@Suite struct PolicyTests {
  private let policies = Policies(
    Policy(families: AddressFamilies { $0 == .inet }, allowsObservedSource: true))
  private let inet = Knock(command: .open, address: .inet(0xC000_0201))
  private let inet6 = Knock(command: .open, address: .inet6(high: 0x2001_0DB8 << 32, low: 1))

  @Test func `only the only user has a policy`() {
    for user in UserNumber.min...UserNumber.max {
      #expect((policies[user] != nil) == (user == 0))
      #expect(policies.allow(inet, from: user) == (user == 0))
    }
  }

  @Test func `a family that the policy does not allow is refused`() {
    #expect(!policies.allow(inet6, from: Policies.onlyUser))
  }
}
