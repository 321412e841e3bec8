import CSystem
import KnockBase
import Netfilter

/// What the user is told of the sets.
extension FirewallSettings {
  var optionName: StaticString {
    if case .ipset = sets { "--ipset" } else { "--nft" }
  }

  /// Writes why the set for a family is of no use or was not changed, and a command that would make
  /// it.
  ///
  /// - Parameter mayName: whether the name of a set is shown in any case. If not, it may be the key,
  ///   put in the wrong place.
  func describe(
    _ failure: Firewall.Failure, _ family: AddressFamily, to line: inout Line, mayName: Bool
  ) {
    guard let name = name(for: family), let sets else { return }
    let target = Target(sets: sets, name: name, family: family, mayName: mayName)
    switch failure {
    case .noTable:
      line.append("there is no ")
      line.append(tableOf: target)
    case .ownedTable:
      line.append(tableOf: target)
      return line.append(" belongs to another program (flags owner), which alone can change it")
    case .noSet:
      line.append("there is no ")
      line.append(target)
    case .otherType:
      line.append(target)
      line.append(" does not hold ")
      line.append(typeOf: target)
    case .map:
      line.append(target)
      line.append(" is a map")
    case .constant:
      line.append(target)
      line.append(" is constant")
    case .noTimeouts:
      line.append(target)
      line.append(" has no timeouts, which --ttl needs")
    case .noIntervals:
      line.append(target)
      line.append(" does not hold prefixes, which --grant-prefix")
      line.append(family == .inet ? "4" : "6")
      line.append(" needs")
    case .defaultTimeout:
      line.append(target)
      line.append(" has intervals and a timeout of its own, which is not safe before Linux 6.2")
    case .mask:
      line.append(target)
      line.append(" has a mask, so that it would hold other addresses than those that knock")
    case .permanent:
      line.append(target)
      return line.append(" holds it for ever, which is not from a knock with --ttl")
    case .full:
      line.append(target)
      return line.append(" is full")
    case .netfilter(let failure):
      line.append(target)
      line.append(": ")
      return line.append(failure)
    }
    line.append("; to make it: ")
    append(commandFor: target, after: failure, to: &line)
  }

  /// What one of the sets is called.
  fileprivate struct Target {
    let sets: Sets
    let name: SetName
    let family: AddressFamily
    let mayName: Bool
  }

  /// Writes the command of the system that makes a set as it must be.
  private func append(
    commandFor target: Target, after failure: Firewall.Failure, to line: inout Line
  ) {
    let isThere = failure != .noTable && failure != .noSet
    let grantsPrefixes = grantsPrefixes(for: target.family)
    switch target.sets {
    case .nft(let table):
      func append(_ command: StaticString) {
        line.append(command)
        line.append(table)
        line.append(" ")
        line.append(target.name)
      }
      line.append("nft '")
      if failure == .noTable {
        line.append("add table ")
        line.append(table)
        line.append("; ")
      }
      if isThere {
        append("delete set ")
        line.append("; ")
      }
      append("add set ")
      line.append(" { type ")
      line.append(typeOf: target)
      line.append(";")
      if seconds != nil || grantsPrefixes {
        line.append(seconds == nil ? " flags " : " flags timeout")
        if grantsPrefixes { line.append(seconds == nil ? "interval" : ", interval") }
        line.append(";")
      }
      line.append(" }'")
    case .ipset:
      if isThere {
        line.append("ipset destroy ")
        line.append(nameOf: target)
        line.append("; ")
      }
      line.append("ipset create ")
      line.append(nameOf: target)
      line.append(grantsPrefixes ? " hash:net family " : " hash:ip family ")
      line.append(target.family.name)
      if seconds != nil { line.append(" timeout 0") }
    }
  }

  /// Writes what a knock of a family does: `grants a /32 in set knock4 of table inet filter ...`.
  func writeGrant(_ family: AddressFamily, to report: Report) {
    guard let sets else { return }
    var line = Line()
    if let name = name(for: family) {
      line.append("grants a /")
      line.append(prefixLength(for: family))
      line.append(" in ")
      line.append(Target(sets: sets, name: name, family: family, mayName: true))
      if let seconds {
        line.append(" for ")
        line.append(seconds)
        line.append(" s")
      } else {
        line.append(" until it is closed")
      }
    } else {
      line.append("no set for ")
      line.append(family.name)
      line.append(", its knocks are refused")
    }
    report.write(line)
  }
}

extension TextSink where Self: ~Copyable {
  /// `set knock4 of table inet filter` or `ipset knock4`.
  fileprivate mutating func append(_ target: FirewallSettings.Target) {
    switch target.sets {
    case .nft:
      append("set ")
      append(target.name)
      append(" of ")
      append(tableOf: target)
    case .ipset:
      append("ipset ")
      append(nameOf: target)
    }
  }

  fileprivate mutating func append(nameOf target: FirewallSettings.Target) {
    if target.mayName {
      append(target.name)
    } else {
      append("(not shown, it may be the key)")
    }
  }

  fileprivate mutating func append(tableOf target: FirewallSettings.Target) {
    guard case .nft(let table) = target.sets else { return }
    append("table ")
    append(table)
  }

  /// `inet filter`.
  fileprivate mutating func append(_ table: NftTable) {
    append(table.family.name)
    append(" ")
    append(table.name)
  }

  fileprivate mutating func append(typeOf target: FirewallSettings.Target) {
    switch target.sets {
    case .nft: append(target.family == .inet ? "ipv4_addr" : "ipv6_addr")
    case .ipset:
      append("addresses of family ")
      append(target.family.name)
      append(" as hash:ip or hash:net do")
    }
  }

  mutating func append(_ failure: NetfilterSocket.Failure) {
    switch failure {
    case .system(let error):
      append(error)
      switch error.number {
      case EPERM: append(" (the capability CAP_NET_ADMIN is needed)")
      // What the kernel says of a part of netfilter that it has not.
      case EINVAL, EPROTONOSUPPORT: append(" (does the kernel have nf_tables or ip_set?)")
      default: break
      }
    case .noAnswer: append("the kernel does not answer")
    case .malformedAnswer: append("the kernel's answer is malformed")
    case .requestTooLong: append("the request is too long")
    case .changed: append("others change the rules all the time")
    }
  }
}
