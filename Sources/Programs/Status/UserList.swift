import KnockBase
import KnockServer

/// How the users are printed, in the order of their names. Nothing about their keys is.
struct UserList: ~Copyable {
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
      user($0).name < user($1).name
    } swap: { one, other in
      let slot = slots[one]
      slots[one] = slots[other]
      slots[other] = slot
    }
  }

  private func user(_ index: Int) -> (name: UserName, policy: Policy) {
    guard let user = users[Int(slots[index])] else { return (.none, usual) }
    return (user.name, user.policy)
  }

  /// Calls `body` with the policy of each user.
  func visitPolicies(_ body: (Policy) -> Void) {
    for index in 0..<users.count { body(user(index).policy) }
  }

  func printTable(_ names: borrowing SetNames, to output: inout TextOutput) {
    output.append("USER")
    output.pad(to: OpenList.userWidth)
    output.append("LIMITS\n")
    for index in 0..<users.count {
      let (name, policy) = user(index)
      output.append(name)
      output.pad(to: OpenList.userWidth)
      print(policy, names, to: &output)
      output.append("\n")
    }
    output.append("\n")
  }

  /// Prints limits as the lines of a user's file say them.
  private func print(_ policy: Policy, _ names: borrowing SetNames, to output: inout TextOutput) {
    if policy.mayOpen != policy.mayClose {
      output.begin(policy.mayOpen ? "commands open" : "commands close")
    }
    if policy.duration < .max {
      output.begin("ttl ")
      output.append(seconds: policy.duration)
    }
    if policy.isOnlyForSource { output.begin("addresses source") }
    policy.visitRanges {
      output.begin("addresses ")
      output.append($0)
    }
    if policy.expires < .max {
      output.begin("expires ")
      output.append(utc: policy.expires)
    }
    for family in 0..<2 {
      let family: AddressFamily = family == 0 ? .inet : .inet6
      let place = policy.place(for: family)
      guard place != usual.place(for: family) else { continue }
      output.begin("a /")
      output.append(place.prefixLength)
      output.append(" in ")
      if place.set == 0 { output.append("no set") } else { output.append(nameOf: place.set, names) }
    }
    if output.column <= OpenList.userWidth { output.append("-") }
  }

  func printJSON(_ names: borrowing SetNames, to output: inout TextOutput) {
    output.append("  \"users\": [")
    for index in 0..<users.count {
      let (name, policy) = user(index)
      output.append(index == 0 ? "\n    {\"name\": \"" : ",\n    {\"name\": \"")
      output.append(name)
      output.append("\", \"open\": ")
      output.append(json: policy.mayOpen)
      output.append(", \"close\": ")
      output.append(json: policy.mayClose)
      output.append(", \"ttl\": ")
      if policy.duration < .max {
        output.append(seconds: policy.duration)
      } else {
        output.append("null")
      }
      output.append(", \"source\": ")
      output.append(json: policy.isOnlyForSource)
      output.append(", \"addresses\": [")
      var separator: StaticString = "\""
      policy.visitRanges {
        output.append(separator)
        output.append($0)
        separator = "\", \""
      }
      output.append(policy.hasRanges ? "\"], \"expires\": " : "], \"expires\": ")
      output.append(jsonTime: policy.expires)
      print(policy.inet, ", \"prefix4\": ", ", \"set4\": ", names, to: &output)
      print(policy.inet6, ", \"prefix6\": ", ", \"set6\": ", names, to: &output)
      output.append("}")
    }
    output.append(users.count == 0 ? "],\n" : "\n  ],\n")
  }

  private func print(
    _ place: Policy.Place, _ prefix: StaticString, _ set: StaticString,
    _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    output.append(prefix)
    output.append(place.prefixLength)
    output.append(set)
    output.append(jsonSet: place.set, names)
  }
}

extension TextOutput {
  /// Begins the next limit of a line.
  fileprivate mutating func begin(_ keyword: StaticString) {
    if column > OpenList.userWidth { append(", ") }
    append(keyword)
  }
}
