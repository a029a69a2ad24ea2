#include "client/cold.h"

#include "client/named.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* python OPTIONS cold_init.py INIT PROGRAM…, which runs both sections in one __main__. NULL: not
 * possible, run the program alone. */
static char **with_init(const struct wf_context *ctx, char *cold_init, char *init, char *cluster) {
    const struct wf_command *command = &ctx->command;
    size_t count = ctx->argc + 5;
    bool short_mode = command->mode == WF_MODE_COMMAND || command->mode == WF_MODE_MODULE;
    char **args = mmap(NULL, count * sizeof *args, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (args == MAP_FAILED)
        return NULL;
    size_t at = 0;
    args[at++] = (char *)ctx->python;
    for (uint32_t i = 1; i <= command->options; i++)
        args[at++] = ctx->argv[i];
    if (command->glued > 0)
        args[at++] = cluster;
    args[at++] = cold_init;
    args[at++] = init;
    if (short_mode)
        args[at++] = command->mode == WF_MODE_COMMAND ? "-c" : "-m";
    for (uint32_t i = command->target; i < ctx->argc; i++)
        args[at++] = ctx->argv[i] +
                     (i == command->target && short_mode ? command->target_offset : 0);
    args[at] = NULL;
    return args;
}

static char **plain(const struct wf_context *ctx) {
    if (ctx->argc > 0) {
        char **args =
            (char **)
                ctx->argv; /* the initial stack's, or the caller's: this process is about to end */
        args[0] = (char *)ctx->python;
        return args;
    }
    static char *alone[2];
    alone[0] = (char *)ctx->python;
    return alone;
}

int wf_cold_exec(const struct wf_context *ctx, struct wf_err *err) {
    char cold_init[WF_PATH_ROOM], init[WF_PATH_ROOM], cluster[256];
    char **args = NULL;
    const struct wf_command *command = &ctx->command;
    bool fits = ctx->init.size > 0 && ctx->init.size < sizeof init && command->mode != 0 &&
                command->glued < sizeof cluster;
    if (fits && wf_named_libfile(ctx->envp, "cold_init.py", cold_init, err) == 0) {
        memcpy(init, ctx->init.data, ctx->init.size);
        init[ctx->init.size] = '\0';
        if (command->glued > 0)
            memcpy(cluster, ctx->argv[command->options + 1], command->glued);
        cluster[command->glued] = '\0';
        args = with_init(ctx, cold_init, init, cluster);
    }
    if (args == NULL)
        args = plain(ctx);
    execve(ctx->python, args, ctx->envp);
    int code = errno;
    wf_err_sys(err, "execve", ctx->python);
    return code == ENOENT || code == ENOTDIR ? 127 : 126;
}
