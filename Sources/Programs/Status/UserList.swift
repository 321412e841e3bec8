import KnockBase
import KnockServer

/// How the users are printed, in the order of their names. Nothing about their keys is.
struct UserList: ~Copyable {
  private static let columns = (version: 18, knock: 27, source: 49, limits: 90)

  private let users: Users
  private let slots: Storage<Int32>
  /// What the server's settings allow. Only other limits are shown in the table.
  private let usual: Policy

  init(_ users: consuming Users, usual: Policy) throws(StateFailure) {
    let slots = try StateFile.memory(users.count + 1, of: Int32.self)
    var count = 0
    for slot in 0..<users.usedCount where users[slot] != nil {
      slots[count] = Int32(slot)
      count += 1
    }
    self.usual = usual
    self.users = users
    self.slots = slots
    sort()
  }

  private func sort() {
    KnockBase.sort(users.count) {
      (user($0)?.name ?? .none) < (user($1)?.name ?? .none)
    } swap: { one, other in
      let slot = slots[one]
      slots[one] = slots[other]
      slots[other] = slot
    }
  }

  @inline(never)
  private func user(_ index: Int) -> User? { users[Int(slots[index])] }

  /// Calls `body` with the policy of each user.
  func visitPolicies(_ body: (Policy) -> Void) {
    for index in 0..<users.count {
      if let user = user(index) { body(user.policy) }
    }
  }

  @inline(never)
  func printTable(
    _ names: borrowing SetNames, _ knocks: borrowing LastKnocks, to output: inout TextOutput
  ) {
    output.append("USER")
    output.pad(to: Self.columns.version)
    output.append("VERSION")
    output.pad(to: Self.columns.knock)
    output.append("LAST KNOCK")
    output.pad(to: Self.columns.source)
    output.append("FROM")
    output.pad(to: Self.columns.limits)
    output.append("LIMITS\n")
    for index in 0..<users.count {
      guard let user = user(index) else { continue }
      let knock = knocks.knock(of: user)
      if user.name.isEmpty { output.append("-") } else { output.append(user.name) }
      output.pad(to: Self.columns.version)
      if user.version > 0 { output.append(user.version) } else { output.append("-") }
      output.pad(to: Self.columns.knock)
      if let knock { output.append(utc: knock.time) } else { output.append("-") }
      output.pad(to: Self.columns.source)
      if let source = knock?.source { output.append(source) } else { output.append("-") }
      output.pad(to: Self.columns.limits)
      print(user.policy, names, to: &output)
      output.append("\n")
    }
    output.append("\n")
  }

  /// Prints limits as the lines of a user's file say them.
  @inline(never)
  private func print(_ policy: Policy, _ names: borrowing SetNames, to output: inout TextOutput) {
    if policy.mayOpen != policy.mayClose {
      output.begin(Self.columns.limits, policy.mayOpen ? "commands open" : "commands close")
    }
    if policy.duration < .max {
      output.begin(Self.columns.limits, "ttl ")
      output.append(seconds: policy.duration)
    }
    if policy.isOnlyForSource { output.begin(Self.columns.limits, "addresses source") }
    policy.visitRanges {
      output.begin(Self.columns.limits, "addresses ")
      output.append($0)
    }
    if policy.expires < .max {
      output.begin(Self.columns.limits, "expires ")
      output.append(utc: policy.expires)
    }
    for family in 0..<2 {
      let family: AddressFamily = family == 0 ? .inet : .inet6
      let place = policy.place(for: family)
      let usual = usual.place(for: family)
      guard place.set != usual.set || place.prefixLength != usual.prefixLength else { continue }
      output.begin(Self.columns.limits, "a /")
      output.append(place.prefixLength)
      output.append(" in ")
      if place.set == 0 { output.append("no set") } else { output.append(nameOf: place.set, names) }
    }
    if output.column <= Self.columns.limits { output.append("-") }
  }

  @inline(never)
  func printJSON(
    _ names: borrowing SetNames, _ knocks: borrowing LastKnocks, to output: inout TextOutput
  ) {
    output.append("  \"users\": [")
    for index in 0..<users.count {
      guard let user = user(index) else { continue }
      let (policy, knock) = (user.policy, knocks.knock(of: user))
      output.append(index == 0 ? "\n    {\"name\": " : ",\n    {\"name\": ")
      output.append(json: user.name)
      output.append(key: "version")
      if user.version > 0 { output.append(user.version) } else { output.append("null") }
      output.append("last_knock", time: knock?.time)
      output.append(key: "from")
      if let source = knock?.source {
        output.append("\"")
        output.append(source)
        output.append("\"")
      } else {
        output.append("null")
      }
      output.append("open", truth: policy.mayOpen)
      output.append("close", truth: policy.mayClose)
      output.append(key: "ttl")
      if policy.duration < .max {
        output.append(seconds: policy.duration)
      } else {
        output.append("null")
      }
      output.append("source", truth: policy.isOnlyForSource)
      output.append(key: "addresses")
      output.append("[")
      var separator: Literal = "\""
      policy.visitRanges {
        output.append(separator)
        output.append($0)
        separator = "\", \""
      }
      output.append(policy.hasRanges ? "\"]" : "]")
      output.append("expires", time: policy.expires)
      print(policy.inet, "prefix4", "set4", names, to: &output)
      print(policy.inet6, "prefix6", "set6", names, to: &output)
      output.append("}")
    }
    output.append(users.count == 0 ? "],\n" : "\n  ],\n")
  }

  @inline(never)
  private func print(
    _ place: Policy.Place, _ prefix: Literal, _ set: Literal,
    _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    output.append(key: prefix)
    output.append(place.prefixLength)
    output.append(key: set)
    output.append(jsonSet: place.set, names)
  }
}

extension TextOutput {
  /// Begins the next limit of a line.
  @inline(never)
  fileprivate mutating func begin(_ start: Int, _ keyword: Literal) {
    if column > start { append(", ") }
    append(keyword)
  }
}
