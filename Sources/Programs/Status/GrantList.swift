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
    output.append("  SINCE                 ENDS\n")
  }

  mutating func append(_ record: Grants.Record, to output: inout TextOutput) {
    guard let address = record.address else { return }
    if isJSON {
      output.append(isFirst ? "\n  {\"address\": \"" : ",\n  {\"address\": \"")
      output.append(address)
      output.append("\", \"since\": \"")
      output.append(utc: record.since)
      output.append("\", \"ends\": \"")
      output.append(utc: record.ends)
      output.append("\"}")
    } else {
      var length = TextLength()
      length.append(address)
      output.append(address)
      for _ in length.count..<Self.addressWidth + 2 { output.append(" ") }
      output.append(utc: record.since)
      output.append("  ")
      output.append(utc: record.ends)
      output.append("\n")
    }
    isFirst = false
  }

  func end(_ output: inout TextOutput) {
    if isJSON { output.append(isFirst ? "]\n" : "\n]\n") }
  }
}
