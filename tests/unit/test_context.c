/* What the client makes of command lines and environments. */
#include "client/context.h"
#include "client/named.h"
#include "client/options.h"
#include "test.h"

#include <string.h>

#define ARGS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static struct wf_command scan(const char *const *args) {
    struct wf_command command;
    uint32_t argc = 0;
    while (args[argc] != NULL)
        argc++;
    wf_options_scan(argc, (char *const *)args, &command);
    return command;
}

#define SCAN(want_mode, want_target, want_offset, want_options, want_glued, ...)                   \
    do {                                                                                           \
        struct wf_command c_ = scan(ARGS("p", ##__VA_ARGS__));                                     \
        CHECK(c_.cold == NULL);                                                                    \
        CHECK_NUMBER(c_.mode, want_mode);                                                          \
        CHECK_NUMBER(c_.target, want_target);                                                      \
        CHECK_NUMBER(c_.target_offset, want_offset);                                               \
        CHECK_NUMBER(c_.options, want_options);                                                    \
        CHECK_NUMBER(c_.glued, want_glued);                                                        \
    } while (0)
#define COLD(...) CHECK(scan(ARGS("p", ##__VA_ARGS__)).cold != NULL)

TEST(options_find_the_program) {
    SCAN(WF_MODE_COMMAND, 2, 0, 0, 0, "-c", "pass", "-v");
    SCAN(WF_MODE_COMMAND, 1, 2, 0, 0, "-cpass");
    SCAN(WF_MODE_COMMAND, 2, 0, 0, 2, "-Ic", "pass");
    SCAN(WF_MODE_COMMAND, 1, 4, 0, 3, "-IBcpass");
    SCAN(WF_MODE_COMMAND, 4, 0, 2, 0, "-I", "-B", "-c", "pass");
    SCAN(WF_MODE_MODULE, 2, 0, 0, 0, "-m", "json.tool", "-h");
    SCAN(WF_MODE_MODULE, 2, 2, 1, 0, "-u", "-mjson.tool");
    SCAN(WF_MODE_SCRIPT, 1, 0, 0, 0, "x.py", "-i");
    SCAN(WF_MODE_SCRIPT, 6, 0, 5, 0, "-W", "ignore", "-X", "dev", "-Werror", "x.py");
    SCAN(WF_MODE_SCRIPT, 3, 0, 2, 0, "--check-hash-based-pycs", "never", "x.py");
    SCAN(WF_MODE_SCRIPT, 3, 0, 1, 0, "-O", "--", "-x.py");
    SCAN(WF_MODE_STDIN, 2, 0, 1, 0, "-u", "-", "a");
    SCAN(WF_MODE_STDIN, 1, 0, 0, 0);
    SCAN(WF_MODE_STDIN, 2, 0, 1, 0, "-OO");
}

TEST(options_that_run_cold) {
    COLD("-i", "x.py");
    COLD("-Bi", "x.py");
    COLD("-h");
    COLD("-V");
    COLD("--version");
    COLD("--help-all");
    COLD("-c");
    COLD("-X");
    COLD("-X", "importtime", "x.py");
    COLD("-Ximporttime", "x.py");
    COLD("-X", "pycache_prefix=rel", "x.py");
    COLD("-Wnonsense", "x.py");
    COLD("-Z", "x.py");
    COLD("-x", "x.py");
    COLD("module.pyc");
    COLD("");
    CHECK_NUMBER(scan(ARGS("p", "-vi", "x.py")).mode, WF_MODE_SCRIPT);
    CHECK_NUMBER(scan(ARGS("p", "-V", "x.py")).mode, 0);
}

TEST(warning_filters) {
    static const char *const plain[] = { "ignore",
                                         "error::DeprecationWarning",
                                         "default:text with spaces",
                                         "once::UserWarning:mod:12",
                                         "always::",
                                         "d",
                                         "ign" };
    static const char *const odd[] = {
        "", "ignored", "ignore::pkg.Category", "ignore:::m:x", "a:b:c:d:e:f", "error::Foo"
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        CHECK(wf_options_plain_filter(plain[i], strlen(plain[i])));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        CHECK(!wf_options_plain_filter(odd[i], strlen(odd[i])));
}

static const char *cold_with(const char *variable) {
    static struct wf_context ctx;
    char *const argv[] = { "p", "x.py", NULL }, *envp[] = { (char *)variable, NULL };
    wf_context_init(&ctx, 2, argv, envp);
    return ctx.cold;
}

TEST(variables_that_run_cold) {
    CHECK(cold_with("PYTHONPATH=/a:/b") == NULL);
    CHECK(cold_with("PYTHONPATH=") == NULL);
    CHECK(cold_with("PYTHONPATH=/a:") != NULL);
    CHECK(cold_with("PYTHONPATH=lib") != NULL);
    CHECK(cold_with("PYTHONHOME=rel") != NULL);
    CHECK(cold_with("PYTHONINSPECT=1") != NULL);
    CHECK(cold_with("PYTHONINSPECT=") == NULL);
    CHECK(cold_with("PYTHONWARNINGS=ignore,error::UserWarning") == NULL);
    CHECK(cold_with("PYTHONWARNINGS=bogus") != NULL);
    CHECK(cold_with("LD_DEBUG=all") != NULL);
    CHECK(cold_with("LD_LIBRARY_PATH=/a:/b") == NULL);
    CHECK(cold_with("LD_LIBRARY_PATH=/a:") != NULL);
    CHECK(cold_with("LD_PRELOAD=libjemalloc.so.2") == NULL);
    CHECK(cold_with("LD_PRELOAD=./x.so") != NULL);
    CHECK(cold_with("WARMFORK_COLD=1") != NULL);
    CHECK(cold_with("WARMFORK_COLD=0") == NULL);
    CHECK(cold_with("HOME=/root") == NULL);
}

static void key_of(const char *const *args, const char *const *env, uint8_t ret_key[WF_KEY_SIZE]) {
    static struct wf_context ctx;
    struct wf_err err;
    uint32_t argc = 0;
    while (args[argc] != NULL)
        argc++;
    wf_context_init(&ctx, argc, (char *const *)args, (char *const *)env);
    CHECK(wf_context_python(&ctx, "/proc/self/exe", &err) == 0);
    CHECK(wf_context_key(&ctx, &err) == 0);
    CHECK(memcmp(ctx.key, ctx.base_key, WF_KEY_SIZE) == 0);
    memcpy(ret_key, ctx.key, WF_KEY_SIZE);
}

static bool same_key(const char *const *args, const char *const *env, const char *const *other_args,
                     const char *const *other_env) {
    uint8_t a[WF_KEY_SIZE], b[WF_KEY_SIZE];
    key_of(args, env, a);
    key_of(other_args, other_env, b);
    return memcmp(a, b, WF_KEY_SIZE) == 0;
}

TEST(keys) {
    const char *const *script = ARGS("p", "x.py"), *const *none = ARGS();
    CHECK(same_key(script, none, ARGS("q", "y.py", "arg"), ARGS("OTHER=1")));
    CHECK(same_key(script, ARGS("LANG=C", "X=1", "TZ=UTC"), script, ARGS("TZ=UTC", "LANG=C")));
    CHECK(!same_key(script, ARGS("TZ=UTC", "TZ=CET"), script, ARGS("TZ=CET", "TZ=UTC")));
    CHECK(!same_key(script, none, script, ARGS("PYTHONPATH=/a")));
    CHECK(!same_key(script, none, script, ARGS("LC_ALL=C")));
    CHECK(!same_key(script, none, ARGS("p", "-O", "x.py"), none));
    CHECK(!same_key(script, none, ARGS("p", "-m", "x"), none));
    CHECK(same_key(ARGS("p", "-I", "-c", "pass"), none, ARGS("p", "-Icpass"), none));
    CHECK(!same_key(ARGS("p", "-I", "-B", "x"), none, ARGS("p", "-B", "-I", "x"), none));
}

TEST(names) {
    CHECK(wf_named_valid("sage-9.5_x"));
    CHECK(!wf_named_valid(""));
    CHECK(!wf_named_valid(".."));
    CHECK(!wf_named_valid("a/b"));
    CHECK(!wf_named_valid("12345678901234567890123456789012345678901234567890123456789012345"));
}
