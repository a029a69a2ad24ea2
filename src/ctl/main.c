/* warmctl's main: finds the command. */
#include "ctl/ctl.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: warmctl COMMAND [ARGUMENT]...\n"
    "Control the zygotes that warmpy's programs are forked from.\n"
    "\n"
    "  start NAME [--preload MODULE,...] [--init FILE] [--python PYTHON] [--no-wait] [-- PYTHON OPTION...]\n"
    "                 define the zygote NAME, and start it for this context; programs run in it with\n"
    "                 WARMFORK_ZYGOTE=NAME warmpy ...\n"
    "  warm [--preload MODULE,...] [--python PYTHON] [--no-wait] [-- PYTHON OPTION...]\n"
    "                 start what the next warmpy of this context will want, in advance\n"
    "  status [--json] [NAME]\n"
    "                 show the daemon and its zygotes\n"
    "  stop [NAME]    stop the zygote NAME and forget it; without NAME, all of them and the daemon;\n"
    "                 running programs finish\n"
    "  logs [-f] [-n LINES]\n"
    "                 show the end of the daemon's log, and with -f what is added to it\n"
    "  audit [--json] [--fail-on WHAT,...] [--python PYTHON] SCRIPT | -m MODULE | -c CODE\n"
    "                 run the program's imports and tell which of them make forking unsafe; WHAT is a severity\n"
    "                 (unsafe, warning, info), a code such as socket, or never\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 done, 1 failed (audit: what was found asks for it), 2 wrong usage.\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "start", wc_start }, { "warm", wc_warm }, { "status", wc_status },
    { "stop", wc_stop },   { "logs", wc_logs }, { "audit", wc_audit },
};

int wc_fail(const char *text) {
    fflush(stdout);
    fprintf(stderr, "warmctl: %s\n", text);
    return WC_FAILED;
}

int wc_usage(const char *format, const char *argument) {
    char text[400];
    wf_fmt(text, sizeof text, "%s%s%s", format, *argument ? " " : "", argument);
    fprintf(stderr, "warmctl: %s; see warmctl --help\n", text);
    return WC_USAGE;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    int status = -1;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        fputs(help, stdout);
        status = WC_OK;
    } else if (strcmp(name, "--version") == 0) {
        puts("warmctl " WF_VERSION);
        status = WC_OK;
    }
    for (size_t i = 0; status < 0 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        /* What follows the program that is audited is the program's. */
        bool first_only = commands[i].run == wc_audit;
        for (int k = 2; k < (first_only && argc > 3 ? 3 : argc) && strcmp(argv[k], "--") != 0; k++)
            if (strcmp(argv[k], "--help") == 0) {
                fputs(help, stdout);
                return WC_OK;
            }
        status = commands[i].run(argc - 1, argv + 1);
    }
    if (status < 0)
        return *name ? wc_usage("unknown command", name) : wc_usage("which command?", "");
    if (fflush(stdout) != 0 && status == WC_OK)
        return wc_fail("cannot write to stdout");
    return status;
}
