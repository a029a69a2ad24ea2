/* The zygote plays a whole run through once, before it freezes its heap: caches are filled, what is
 * made at first use is made, and os.environ is already what most runs will want. Workers inherit
 * all that. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static struct zy_job job; /* as large as two paths */

/* As far as it goes without consequences: the caller is the one this zygote was made for, its files
 * are /dev/null. */
static unsigned play(struct wf_err *err) {
    char script[600];
    unsigned why;
    if ((why = zy_setup(&job, err)) != 0 || (why = zy_setup_bounds(&job, err)) != 0)
        return why;
    zy_run(&job);
    wf_fmt(script, sizeof script, "%s/rehearse.py", zy.libdir);
    job.text = script;
    job.request.mode = WF_MODE_SCRIPT;
    if (zy_run_find_importer(&job) == 0)
        zy_run(&job);
    zy_forget_path(&job);
    zy_finish_rehearse(&job);
    return 0;
}

int zy_rehearse(struct wf_err *err) {
    int kept[3], fds[4];
    sigset_t mask;
    job = (struct zy_job){
        .request = zy.request, .connection = -1, .given = { -1, -1, -1 }, .rehearsal = true
    };
    job.request.stdio = 7;
    job.request.sig_ignored = 0;
    job.request.fdnums.size = 0;
    job.request.mode = WF_MODE_COMMAND;
    if (!zy_job_point(&job))
        return wf_err_sys(err, "malloc", "the rehearsal's arguments");
    job.text = "print('')";
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int i = 0; i < 3; i++) {
        kept[i] = fcntl(i, F_DUPFD_CLOEXEC, ZY_FD_BASE);
        fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        zy_stdio_measure(fds[i], &job.kinds[i]);
    }
    fds[3] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    job.fds = fds;
    job.nfds = 4;
    unsigned why = play(err);
    for (int i = 0; i < 3; i++) {
        if (kept[i] >= 0)
            dup2(kept[i], i);
        wf_close(&kept[i]);
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (why != 0)
        return -1;
    return zp_main_reset() < 0 ? zp_failed(err, "__main__") : 0;
}
