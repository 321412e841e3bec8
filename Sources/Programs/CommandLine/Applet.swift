import KnockBase

/// A program in this one: the form of its command line, and its work.
protocol Applet {
  associatedtype Settings: AppletSettings
  /// `pyknock server`, for example.
  static var program: StaticString { get }
  /// The forms of the command line: a line each, the last one without its end.
  static var usage: StaticString { get }
  /// Whole lines for the help, between the usage and the options.
  static var description: StaticString { get }
  /// Whole lines for the end of the help.
  static var examples: StaticString { get }
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

  /// Reads the command line, and does what it says.
  ///
  /// - Parameter owner: the name of a program that has an option.
  static func start(
    _ arguments: ArgumentList, owner: (Argument) -> StaticString?
  ) -> ExitCode {
    log.begin(as: program)
    var settings = Settings()
    var operands = Operands()
    var misuse: Misuse?
    var reader = ArgumentReader<Settings.Option>(arguments)
    while let token = reader.next() {
      switch token {
      case .operand
      where reader.onlyOperands
        && takesCommand(settings, after: operands, count: reader.restCount):
        operands.command = reader.takeRest()
      case .operand(let operand): operands.append(operand)
      case .misuse(let found): misuse = misuse ?? found
      case .option(let option, _) where option == .help: return printHelp()
      case .option(let option, _) where option == .version: return printVersion()
      case .option(let option, let value):
        do throws(Misuse) {
          try settings.apply(option, value)
        } catch { misuse = misuse ?? error }
      }
    }

    log.showsArguments = settings.showsArguments
    if case .unknownOption(let argument) = misuse {
      let nearest = Settings.Option.nearest(to: argument)
      return failUnknown(argument, nearest, owner: owner(argument), usage)
    }
    if let misuse { return fail(misuse) }
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
    do throws(KeyedMAC.SelfTestError) {
      try KeyedMAC.testItself()
    } catch {
      log.error("\(error)")
      return .failure
    }
    guard let keyOperand else {
      return run(settings, operands, keySource: settings.keyFileSource)
    }
    return run(
      settings, operands.removing(keyOperand), keySource: operands[keyOperand].map { .operand($0) })
  }

  /// Logs a mistake in the command line, and the usage.
  @inline(never)
  static func fail(_ misuse: Misuse) -> ExitCode {
    log.error("\(misuse)")
    log.plain("\(usage)")
    return .misuse
  }

  /// Logs why there is no key. A bad operand is a mistake in the command line.
  static func fail(_ error: KeyError, from source: KeySource) -> ExitCode {
    switch source {
    case .operand: return fail(.key(error))
    case .file(let path):
      log.error("\(KeyFileError(path: path, isConfigured: false, error: error))")
    case .configuredFile(let path):
      log.error("\(KeyFileError(path: path, isConfigured: true, error: error))")
    }
    return .failure
  }
}

/// Logs what was most likely meant by an unknown option: one of another program, or the nearest of this one.
@inline(never)
private func failUnknown(
  _ argument: Argument, _ nearest: NearestName, owner: StaticString?, _ usage: StaticString
) -> ExitCode {
  var (hint, name): (StaticString, StaticString) = ("", "")
  if let owner, !nearest.isSame {
    (hint, name) = ("; it is one of pyknock ", owner)
  } else if let near = nearest.name {
    (hint, name) = ("; you may mean --", near)
  }
  // A key is no option of any program, and not near to the name of one.
  if name.utf8CodeUnitCount > 0 { log.showsArguments = true }
  log.error("\(Misuse.unknownOption(argument))\(hint)\(name)")
  log.plain("\(usage)")
  return .misuse
}
