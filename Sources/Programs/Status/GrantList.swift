import KnockBase
import KnockServer

/// How open grants are printed: as a table, or as JSON (RFC 8259). Times are UTC (RFC 3339).
struct GrantList {
  private static let addressWidth = 39  // The longest text of an address.
  private let isJSON: Bool
  private var isFirst = true

  init(asJSON: Bool) { isJSON = asJSON }

  func begin(_ output: inout TextOutput) {
    if isJSON { return output.append("[") }
    output.append("ADDRESS")
    for _ in 7..<Self.addressWidth { output.append(" ") }
    output.append("  SINCE                 ENDS                  OPEN\n")
  }

  mutating func append(
    _ grant: Grant, _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    let hasCommand = grant.command != .none
    if isJSON {
      output.append(isFirst ? "\n  {\"address\": \"" : ",\n  {\"address\": \"")
      output.append(grant.address)
      output.append("\", \"since\": \"")
      output.append(utc: grant.since)
      output.append("\", \"ends\": ")
      if grant.ends == Grant.never {
        output.append("null")
      } else {
        output.append("\"")
        output.append(utc: grant.ends)
        output.append("\"")
      }
      if grant.set != 0 {
        output.append(", \"range\": \"")
        output.append(grant.range)
        output.append("\", \"set\": \"")
        Self.append(grant.set, names, to: &output)
        output.append("\"")
      }
      output.append(hasCommand ? ", \"command\": true}" : ", \"command\": false}")
    } else {
      var length = TextLength()
      length.append(grant.address)
      output.append(grant.address)
      for _ in length.count..<Self.addressWidth + 2 { output.append(" ") }
      output.append(utc: grant.since)
      output.append("  ")
      if grant.ends == Grant.never {
        output.append("when closed         ")
      } else {
        output.append(utc: grant.ends)
      }
      output.append("  ")
      if grant.set != 0 {
        output.append(grant.range)
        output.append(" in ")
        Self.append(grant.set, names, to: &output)
        if hasCommand { output.append(", ") }
      }
      output.append(hasCommand ? "command\n" : "\n")
    }
    isFirst = false
  }

  private static func append(
    _ set: UInt16, _ names: borrowing SetNames, to output: inout TextOutput
  ) {
    _ = names.withName(set) { output.append($0) }
  }

  func end(_ output: inout TextOutput) {
    if isJSON { output.append(isFirst ? "]\n" : "\n]\n") }
  }
}
