import time

from taskqd import App, every

app = App("shop")


@app.task(retries=3, retry_delay=2, retry_backoff=2.0)
def thumbnail(path: str, width: int = 200) -> str:
    time.sleep(1)
    return f"{path} at {width} px"


@app.periodic_task(every(minutes=5))
def sweep() -> None:
    print("sweeping")
