import KnockBase
import KnockProtocol
import TestSupport
import Testing

@testable import KnockServer

private let capacity = 1 << 14

private func inet6(_ high: UInt64, _ low: UInt64) -> Address { .inet6(high: high, low: low) }

/// Addresses that somebody may choose so that they are hard to tell apart, by what they have in common.
private let families: [(String, @Sendable (UInt64) -> Address)] = [
  ("198.18.0.0/16", { .inet(0xC612_0000 + UInt32($0)) }),
  ("every 16th of a /12", { .inet(0xC610_0000 + 16 * UInt32($0)) }),
  ("x.x.1.1", { .inet(UInt32($0) << 16 | 0x0101) }),
  ("2001:db8::/64", { inet6(0x2001_0DB8_0000_0000, $0) }),
  ("2001:db8::x:0:0:0", { inet6(0x2001_0DB8_0000_0000, $0 << 48) }),
  ("2001:db8:0:x::1", { inet6(0x2001_0DB8_0000_0000 + $0, 1) }),
  ("x:x::1", { inet6((0x2000_0000 + $0) << 32, 1) }),
]

private func empty(_ count: Int) -> GrantTable {
  GrantTable(
    states: storage(count, of: Grants.State.self), heap: storage(count, of: UInt32.self),
    index: PositionIndex(storage(PositionIndex.count(forRecords: count), of: UInt32.self)),
    areas: storage(count, of: UInt32.self), secret: 7)
}

private func grant(of address: Address) -> Grants.State {
  Grants.State(
    Grant(
      address, user: .none, key: .none, command: .pending, since: 0, asked: 0, ends: Grant.never),
    deadline: .max, setDeadline: .max)
}

@Suite struct GrantTableTests {
  @Test(arguments: families.indices, [0, 7, 0xB01D_FACE_0123_4567] as [UInt64])
  func `neighbours spread over the table`(family: Int, secret: UInt64) {
    // As PositionIndex has them.
    var used = [Bool](repeating: false, count: PositionIndex.count(forRecords: capacity))
    var longest = 0
    for number in 0..<UInt64(capacity) {
      let hash = GrantTable.hash(of: families[family].1(number), secret)
      var slot = Int(truncatingIfNeeded: hash) & (used.count - 1)
      var probes = 1
      while used[slot] {
        slot = (slot + 1) & (used.count - 1)
        probes += 1
      }
      used[slot] = true
      longest = max(longest, probes)
    }
    // Random numbers need about 40.
    #expect(longest <= 100, "\(families[family].0)")
  }

  @Test func `a visit finds all grants of an area, whatever was removed`() {
    var table = empty(60)
    var positions: [(position: Int, address: Address)] = []
    var random = Generator(seed: 1)
    for step in 0..<2000 {
      if positions.count < 60, positions.isEmpty || random.next() % 5 < 3 {
        let area = random.next() % 4
        let address: Address =
          area < 2
          ? .inet(UInt32(0xC612 + area) << 16 | UInt32(random.next() & 0xFFFF))
          : inet6((0x2001_0DB8_0000 + area) << 16 | random.next() & 0xFFFF, random.next())
        let position = table.freePosition()
        table.insert(grant(of: address), at: position)
        positions.append((position, address))
      } else {
        let index = Int(random.next() % UInt64(positions.count))
        table.remove(at: positions.remove(at: index).position)
      }
      let areas = positions.map { area(of: $0.address) }
      let areFound = positions.allSatisfy { (_, address) in
        var found: [UInt64] = []
        table.visit(near: address) { found.append(area(of: $0.grant.address)) }
        let wanted = area(of: address)
        return found.count { $0 == wanted } == areas.count { $0 == wanted }
      }
      #expect(areFound, "after \(step) steps")
    }
  }

  private func area(of address: Address) -> UInt64 {
    switch address {
    case .inet(let bits): UInt64(bits >> 16)
    case .inet6(let high, _): high >> 16
    }
  }
}
