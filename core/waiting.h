/* waiting.h - how long threads that wait for each other spin before they sleep. */
#ifndef QAT_WAITING_H
#define QAT_WAITING_H

/* To be called before a plugin brings OpenMP in, which reads it then. What the user has
 * set (GOMP_SPINCOUNT, OMP_WAIT_POLICY) stays. Changes the speed of a run, not its bits. */
void qat_waiting_choose(void);

#endif
