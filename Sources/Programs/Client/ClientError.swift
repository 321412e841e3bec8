import KnockBase
import KnockProtocol

/// Why the client cannot do what it was asked for.
enum ClientError: Error {
  case misuse(Misuse)
  case key(KeyError, KeySource)
  case configuration(ConfigurationError<ClientKeyword>)
  /// Whether it is the HostName of the host that has no address.
  case unresolved(host: Argument, isConfigured: Bool, Resolution.Failure)
  case badSourceAddress(Argument)
  case badSignedAddress(Argument)
  case refusedSignedAddress(Refusal)
  case notImported(ImportFault)
  /// The key of a host is of version 1, and cannot do this.
  case needsVersion2(Literal, host: Argument)
  /// It has been logged.
  case noPublicAddress
  /// It has been logged.
  case portNotOpened
  case connectionBroke(SystemError)
  case commandNotRun(Argument, SystemError)
  case system(SystemError)

  var exitCode: ExitCode {
    switch self {
    case .misuse, .needsVersion2: .misuse
    case .key(_, .operand): .misuse
    case .unresolved: .cannotResolve
    case .badSourceAddress: .badSourceAddress
    case .badSignedAddress, .refusedSignedAddress, .noPublicAddress: .badSignedAddress
    case .connectionBroke: .connectionBroke
    case .commandNotRun(_, let error): ExitCode(rawValue: error == .notFound ? 127 : 126)
    case .key, .configuration, .notImported, .portNotOpened, .system: .failure
    }
  }
}
