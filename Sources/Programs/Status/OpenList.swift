import KnockBase
import KnockProtocol
import KnockServer
import Netfilter

/// An address or range that is open: a grant, or an element of a set that is in no grant.
struct OpenItem {
  let family: AddressFamily
  let first: AddressNumber
  let last: AddressNumber
  let grant: Grant?
  /// The number of the set; 0 for none.
  let set: UInt16
  /// When it ends: what the kernel says if it counts the time. In microseconds since the Unix epoch, `Grant.never` if it
  /// has no end.
  let expires: Int64
  /// Whether the set holds it. Nil without a set, and if that could not be read.
  let isHeld: Bool?

  @inline(never)
  init(_ grant: Grant, _ element: SetElement?, isHeld: Bool?) {
    let range = grant.range
    family = range.family
    first = range.first
    last = range.last
    self.grant = grant
    self.set = grant.set
    self.isHeld = isHeld
    expires = element.flatMap { Self.end(of: $0) } ?? grant.ends
  }

  @inline(never)
  init(_ element: SetElement, of family: AddressFamily, in set: UInt16) {
    self.family = family
    first = element.first
    last = element.last
    grant = nil
    self.set = set
    isHeld = true
    expires = Self.end(of: element) ?? Grant.never
  }

  private static func end(of element: SetElement) -> Int64? {
    guard element.milliseconds < SetElement.forever else { return nil }
    return SystemClock.wall() + Int64(min(element.milliseconds, longest)) * Microseconds.millisecond
  }
  /// The kernel takes any number. This one (milliseconds) is over 4000 years.
  private static var longest: UInt64 { 1 << 47 }
}

/// How what is open is printed: as a table, or as JSON (RFC 8259). Times are UTC (RFC 3339).
struct OpenList {
  /// The blanks after the longest names that are likely begin here.
  static let userWidth = 18
  private static let columns = (user: 41, since: 41 + userWidth, expires: 81, ours: 103, place: 109)

  private let isJSON: Bool
  /// Whether the journal could be read.
  private let knowsGrants: Bool
  private var isFirst = true

  init(asJSON: Bool, knowsGrants: Bool) {
    isJSON = asJSON
    self.knowsGrants = knowsGrants
  }

  func begin(_ output: inout TextOutput) {
    if isJSON { return output.append("  \"open\": [") }
    output.append("ADDRESS")
    output.pad(to: Self.columns.user)
    output.append("USER")
    output.pad(to: Self.columns.since)
    output.append("SINCE")
    output.pad(to: Self.columns.expires)
    output.append("EXPIRES")
    output.pad(to: Self.columns.ours)
    output.append("OURS  IN\n")
  }

  @inline(never)
  mutating func append(
    _ item: OpenItem, _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    if isJSON {
      appendObject(item, names, to: &output)
    } else {
      appendLine(item, names, to: &output)
    }
    isFirst = false
  }

  private func appendLine(
    _ item: OpenItem, _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    output.append(item.first, to: item.last, item.family)
    output.pad(to: Self.columns.user)
    if let user = item.grant?.user, !user.isEmpty {
      output.append(user)
    } else {
      output.append(knowsGrants ? "-" : "?")
    }
    output.pad(to: Self.columns.since)
    if let grant = item.grant {
      output.append(utc: grant.since)
    } else {
      output.append(knowsGrants ? "-" : "?")
    }
    output.pad(to: Self.columns.expires)
    if item.isHeld == false {
      output.append("gone")
    } else if item.expires == Grant.never {
      output.append("never")
    } else {
      output.append(utc: item.expires)
    }
    output.pad(to: Self.columns.ours)
    output.append(!knowsGrants ? "?" : item.grant == nil ? "no" : "yes")
    output.pad(to: Self.columns.place)
    output.append(nameOf: item.set, names)
    if let grant = item.grant, grant.command != .none {
      output.append(item.set == 0 ? "command" : ", command")
    }
    output.append("\n")
  }

  private func appendObject(
    _ item: OpenItem, _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    output.append(isFirst ? "\n    {\"address\": \"" : ",\n    {\"address\": \"")
    if let grant = item.grant {
      output.append(grant.address)
    } else {
      output.append(Address(item.first, of: item.family))
    }
    output.append("\"")
    output.append(key: "range")
    output.append("\"")
    output.append(item.first, to: item.last, item.family)
    output.append("\"")
    output.append(key: "user")
    output.append(json: item.grant?.user ?? .none)
    output.append("since", time: item.grant?.since)
    output.append("ends", time: item.grant?.ends)
    output.append("expires", time: item.expires)
    output.append("ours", truth: knowsGrants ? item.grant != nil : nil)
    output.append("held", truth: item.isHeld)
    output.append(key: "set")
    output.append(jsonSet: item.set, names)
    output.append("command", truth: item.grant.map { $0.command != .none })
    output.append("}")
  }

  func end(_ output: inout TextOutput) {
    if isJSON { output.append(isFirst ? "]\n}\n" : "\n  ]\n}\n") }
  }
}

extension TextOutput {
  /// `, "since": `, before a value.
  @inline(never)
  mutating func append(key name: Literal) {
    append(", \"")
    append(name)
    append("\": ")
  }

  @inline(never)
  mutating func append(_ key: Literal, time: Int64?) {
    append(key: key)
    append(jsonTime: time)
  }

  @inline(never)
  mutating func append(_ key: Literal, truth: Bool?) {
    append(key: key)
    append(json: truth)
  }

  /// `192.0.2.1`, `192.0.2.0/24`, or `192.0.2.1-192.0.2.7` if it is no prefix.
  @inline(never)
  mutating func append(
    _ first: AddressNumber, to last: AddressNumber, _ family: AddressFamily
  ) {
    append(Address(first, of: family))
    guard first < last else { return }
    if let length = first.prefixLength(to: last, of: family) {
      append("/")
      append(length)
    } else {
      append("-")
      append(Address(last, of: family))
    }
  }

  @inline(never)
  mutating func append(nameOf set: UInt16, _ names: borrowing SetNames) {
    _ = names.withName(set) { append($0) }
  }

  @inline(never)
  mutating func append(jsonSet set: UInt16, _ names: borrowing SetNames) {
    guard set != 0 else { return append("null") }
    append("\"")
    append(nameOf: set, names)
    append("\"")
  }

  /// A time in microseconds since the Unix epoch, or `null` if there is none.
  @inline(never)
  mutating func append(jsonTime time: Int64?) {
    guard let time, time != Grant.never else { return append("null") }
    append("\"")
    append(utc: time)
    append("\"")
  }

  /// A name, which needs no escapes, or `null` for none.
  @inline(never)
  mutating func append(json user: UserName) {
    guard !user.isEmpty else { return append("null") }
    append("\"")
    append(user)
    append("\"")
  }

  @inline(never)
  mutating func append(json truth: Bool?) {
    append(truth == nil ? "null" : truth == true ? "true" : "false")
  }
}
