# Plain C: it is always built, and the others are judged by it.
