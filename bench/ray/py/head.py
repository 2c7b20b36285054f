"""What becomes of a Ray job when the head node dies. Prints one line of JSON.

Two nodes on loopback, started as on two machines. Samplers and the driver, which
learns, are on the second one; on the head there is nothing of the job. Then every
process of the head is killed at once, as the loss of a machine would.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import processes

NODE = "DRIFTMESH_BENCH_NODE"


def drive(c):
    """The job: it writes a line for every update."""
    os.environ.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    import ray

    from measure import SamplerActor, learner_of

    ray.init(address=c["address"], log_to_driver=False, _node_ip_address="127.0.0.3")
    learner = learner_of(c)
    # Restarts and retries without end: nothing is given up that Ray would not give up.
    actors = [
        SamplerActor.options(resources={"second": 1}, max_restarts=-1, max_task_retries=-1).remote(c, i)
        for i in range(c["samplers"])
    ]
    while True:
        params = ray.put(learner.flat.copy())
        calls = [a.sample.options(num_returns=2).remote(params, learner.version, time.time()) for a in actors]
        for batch, _ in calls:
            learner.step(ray.get(batch))
            print(learner.version, flush=True)


def start(c, name, *args):
    env = dict(os.environ, **{NODE: name})
    env.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)  # it allows one node only
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    common = ["--object-store-memory", str(128 << 20), "--num-cpus", str(c["cpus"]), "--disable-usage-stats"]
    subprocess.run([ray, "start", *args, *common], env=env, check=True, stdout=sys.stderr)


def main(c):
    answer = processes.Answer()
    address = f"127.0.0.2:{c['port']}"
    start(c, "head", "--head", "--port", str(c["port"]), "--node-ip-address", "127.0.0.2",
          "--include-dashboard", "false", "--temp-dir", c["temp"])
    start(c, "second", "--address", address, "--node-ip-address", "127.0.0.3", "--resources", '{"second": 100}')
    c["address"] = address
    driver = subprocess.Popen([sys.executable, __file__, "drive", json.dumps(c)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=dict(os.environ, **{NODE: "driver"}))
    lines, said = [], []

    def read():
        for _ in driver.stdout:
            lines.append(time.time())

    threads = [threading.Thread(target=read), threading.Thread(target=lambda: said.extend(driver.stderr))]
    for t in threads:
        t.start()
    wait = time.time() + 90
    while len(lines) < 100:
        if driver.poll() is not None or time.time() > wait:
            driver.kill()
            sys.exit("the job did not begin:\n" + "".join(said))
        time.sleep(0.1)
    killed = time.time()
    victims = processes.carriers(f"{NODE}=head")
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    while driver.poll() is None and time.time() < killed + c["patience"]:
        time.sleep(0.02)
    ended = time.time() - killed
    code = driver.poll()
    if code is None:
        driver.kill()
    for t in threads:
        t.join()
    after = [t - killed for t in lines if t > killed]
    answer.give({
        "killed_processes": len(victims),
        "updates_before": len(lines) - len(after),
        "last_update_s": after[-1] if after else 0.0,
        "watched_s": ended,
        "driver_ended": code is not None,
        "driver_exit_code": code,
        "driver_said": [s.strip() for s in said if s.strip()][-6:],
    })


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        drive(json.loads(sys.argv[2]))
    else:
        main(json.loads(sys.argv[1]))
