import KnockBase

/// A program in this one: the form of its command line, and its work.
protocol Applet {
  associatedtype Settings: AppletSettings
  /// `pyknock server`, for example.
  static var program: Literal { get }
  /// The forms of the command line: a line each, the last one without its end.
  static var usage: Literal { get }
  /// Whole lines for the help, between the usage and the options.
  static var description: Literal { get }
  /// Whole lines for the end of the help.
  static var examples: Literal { get }
  /// What to write instead of these operands, whose number is wrong.
  ///
  /// - Parameter withKey: whether one of the operands is the key.
  static func operandMisuse(_ settings: Settings, _ operands: Operands, withKey: Bool) -> Misuse
  /// How many operands there must be besides the key, at most 3. `given` is how many there are.
  static func operandCount(_ settings: Settings, _ operands: Operands, given: Int) -> Int
  /// Whether the `count` words after `--` are a command of the user's, if these operands come before it.
  static func takesCommand(_ settings: Settings, after operands: Operands, count: Int) -> Bool
  /// The position of the key among the operands; nil if it is not one of them.
  static func keyOperand(_ settings: Settings, _ operands: Operands) -> Int?
  /// Prints what an option asks for instead of the work; nil if no option does.
  static func printInstead(_ settings: Settings) -> ExitCode?
  /// Does the work. The number of operands is right; `keySource` is nil if neither they nor `-k` give it.
  static func run(_ settings: Settings, _ operands: Operands, keySource: KeySource?) -> ExitCode
}

extension Applet {
  static func takesCommand(_ settings: Settings, after operands: Operands, count: Int) -> Bool {
    false
  }
  static func printInstead(_ settings: Settings) -> ExitCode? { nil }

  @inline(never)
  static func printHelp() -> ExitCode {
    let form = AppletForm(
      program: program, usage: usage, description: description, examples: examples)
    return form.printHelp {
      Settings.Option.spec($0)
    } heading: {
      Settings.Option(rawValue: $0)?.heading
    }
  }

  /// Reads the command line, and does what it says.
  ///
  /// - Parameter owner: the name of a program that has an option.
  static func start(
    _ arguments: ArgumentList, owner: (Argument) -> Literal?
  ) -> ExitCode {
    log.begin(as: program)
    var settings = Settings()
    log.showsArguments = settings.showsArguments
    var operands = Operands()
    let end = read(arguments, &operands, usage, owner: owner, printHelp: printHelp) {
      Settings.Option.spec($0)
    } takesCommand: {
      takesCommand(settings, after: $0, count: $1)
    } apply: { option, value throws(Misuse) in
      let option = Settings.Option(rawValue: option) ?? .help
      guard option != .help, option != .version else { return false }
      defer { log.showsArguments = settings.showsArguments }
      try settings.apply(option, value)
      return true
    }
    if let end { return end }

    do throws(ConfigurationError<Settings.Keyword>) {
      try settings.readConfiguration()
    } catch {
      log.error("\(error)")
      return .failure
    }
    log.showsArguments = settings.showsArguments
    do throws(Misuse) {
      try settings.validate()
    } catch { return fail(error) }
    let keyOperand = settings.keyFile == nil ? keyOperand(settings, operands) : nil
    let keyCount = keyOperand == nil ? 0 : 1
    let needed =
      operandCount(settings, operands, given: operands.count - keyCount) + keyCount
    if let printed = printInstead(settings) { return printed }
    guard operands.count == needed else {
      return fail(operandMisuse(settings, operands, withKey: keyOperand != nil))
    }
    guard logSelfTest() else { return .failure }
    let source =
      keyOperand.map { operands.remove($0).map { .operand($0) } } ?? settings.keyFileSource
    return run(settings, operands, keySource: source)
  }

  /// Logs a mistake in the command line, and the usage.
  static func fail(_ misuse: Misuse) -> ExitCode { logMisuse(misuse, usage) }

  /// Logs why there is no key. A bad operand is a mistake in the command line.
  static func fail(_ error: KeyError, from source: KeySource) -> ExitCode {
    switch source {
    case .operand: return fail(.key(error))
    case .setting: log.error("Key: \(error)")
    case .hiddenFile: log.error("KeyFile: \(error)")
    case .file(let path):
      log.error("\(KeyFileError(path: path, isConfigured: false, error: error))")
    case .configuredFile(let path):
      log.error("\(KeyFileError(path: path, isConfigured: true, error: error))")
    }
    return .failure
  }
}

/// The texts of an applet's help.
struct AppletForm {
  let program: Literal
  let usage: Literal
  let description: Literal
  let examples: Literal
}

/// Reads a command line. Returns the exit code if there is nothing more to do: it has a mistake, or asks for the help or
/// the version.
///
/// - Parameters:
///   - takesCommand: whether so many words after `--` are a command, if these operands come before it.
///   - apply: takes an option. Returns false if it asks for the help or the version.
@inline(never)
private func read(
  _ arguments: ArgumentList, _ operands: inout Operands, _ usage: Literal,
  owner: (Argument) -> Literal?, printHelp: () -> ExitCode, _ options: OptionList,
  takesCommand: (Operands, Int) -> Bool, apply: (UInt8, Argument?) throws(Misuse) -> Bool
) -> ExitCode? {
  var reader = ArgumentReader(arguments)
  var misuse: Misuse?
  while let token = reader.next(options) {
    switch token {
    case .operand where reader.onlyOperands && takesCommand(operands, reader.restCount):
      operands.command = reader.takeRest()
    case .operand(let operand): operands.append(operand)
    case .misuse(let found): misuse = misuse ?? found
    case .option(let option, let value):
      do throws(Misuse) {
        if try !apply(option, value) {
          return options(option)?.short == OptionSpec.help.short ? printHelp() : printVersion()
        }
      } catch { misuse = misuse ?? error }
    }
  }
  return misuse.map { logMistake($0, usage, owner: owner, options) }
}

/// Logs a mistake, and what was most likely meant by an unknown option: one of another program, or the nearest of
/// this one.
private func logMistake(
  _ misuse: Misuse, _ usage: Literal, owner: (Argument) -> Literal?,
  _ options: OptionList
) -> ExitCode {
  guard case .unknownOption(let argument) = misuse else { return logMisuse(misuse, usage) }
  let nearest = nearestOption(to: argument, of: options)
  var (hint, name): (Literal, Literal) = ("", "")
  if !nearest.isSame, let owner = owner(argument) {
    (hint, name) = ("; it is one of pyknock ", owner)
  } else if let near = nearest.name {
    (hint, name) = ("; you may mean --", near)
  }
  // A key is no option of any program, and not near to the name of one.
  if !name.isEmpty { log.showsArguments = true }
  log.error("\(misuse)\(hint)\(name)")
  log.plain("\(usage)")
  return .misuse
}

@inline(never)
private func logMisuse(_ misuse: Misuse, _ usage: Literal) -> ExitCode {
  log.error("\(misuse)")
  log.plain("\(usage)")
  return .misuse
}

/// Returns whether the MAC works here, and logs if not.
@inline(never)
private func logSelfTest() -> Bool {
  do throws(KeyedMAC.SelfTestError) {
    try KeyedMAC.testItself()
    return true
  } catch {
    log.error("\(error)")
    return false
  }
}
