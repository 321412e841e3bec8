#include "Terminal.h"

#include "Files.h"

#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { SIGNALS = 6 };
static const int signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN};
static struct sigaction former[SIGNALS];
static struct termios shown;
static int is_hidden;
/// -1 if nothing is asked for.
static int terminal = -1;
static const char *question;

static void show(int fd) {
  // Without waiting, and what was typed ahead stays for the user's command.
  if (is_hidden) tcsetattr(fd, TCSANOW, &shown);
  for (int i = 0; i < SIGNALS; i++) sigaction(signals[i], &former[i], NULL);
}

static void hide(void);

/// Lets a signal do what it would do without us. If that was to stop, goes on here.
static void pass_on(int number) {
  show(terminal);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, number);
  raise(number);
  sigprocmask(SIG_UNBLOCK, &mask, NULL);
  hide();
}

static void hide(void) {
  if (terminal < 0) return;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = pass_on;
  sigfillset(&action.sa_mask);
  for (int i = 0; i < SIGNALS; i++)
    if (sigaction(signals[i], NULL, &former[i]) == 0 && former[i].sa_handler != SIG_IGN)
      sigaction(signals[i], &action, NULL);
  // In the background, the terminal is another group's. TTIN then stops the first read, and this is called again.
  const pid_t foreground = tcgetpgrp(terminal);
  is_hidden = (foreground < 0 || foreground == getpgrp()) && tcgetattr(terminal, &shown) == 0;
  if (!is_hidden) return;
  struct termios hidden = shown;
  hidden.c_lflag = (hidden.c_lflag & ~(tcflag_t)ECHO) | ECHONL;
  tcsetattr(terminal, TCSANOW, &hidden);
  // It may be open to read only.
  if (csys_write(terminal, question, strlen(question)) < 0)
    csys_write(STDERR_FILENO, question, strlen(question));
}

void csys_hide_input(int fd, const char *prompt) {
  if (!isatty(fd)) return;
  terminal = fd;
  question = prompt;
  hide();
}

void csys_show_input(void) {
  int fd = terminal;
  terminal = -1;
  if (fd >= 0) show(fd);
}
