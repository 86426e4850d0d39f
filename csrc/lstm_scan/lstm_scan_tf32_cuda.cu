// The LSTM scans on tensor cores in fp32, by three TF32 products; a file a path keeps compilation short.
#include "lstm_scan/scan_launch_cuda.h"

namespace genfast::scan {

template void forward_on<Mma<cuda::Tf32x3Format>>(const LstmScan&, ScanPlan, cudaStream_t);
template void backward_on<Mma<cuda::Tf32x3Format>>(const LstmScan&, bool, ScanPlan, cudaStream_t);

}  // namespace genfast::scan
