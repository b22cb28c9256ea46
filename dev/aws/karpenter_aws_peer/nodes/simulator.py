class Simulator:
    def __init__(self, peer): pass
    def start(self): pass
    def stop(self): pass
